"""Moves any number of records with set-based SQL: states, history and jobs, as a flush would.

On PostgreSQL one statement does it all, unless the move leaves a state whose jobs must be
cancelled: those may be newer than the snapshot of the statement that locked the records, so a later
statement looks for them. Arguments that are made from the record need it loaded, after its move.
Records are locked in the order of their ids, then their jobs, as everywhere; with a limit they are
those that nobody holds, and so need no order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from sqlalchemy import ColumnExpressionArgument, Connection, FromClause
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from statejobs.errors import StaleTransitionError
from statejobs.record.bulk.call import BulkMove
from statejobs.record.bulk.checks import (
    Values,
    changes_in_sql,
    guards_in_sql,
    model_of,
    named_tenant_in_sql,
    permissions_in_sql,
    refuse_body,
    values_in_sql,
)
from statejobs.record.bulk.each import jobs_of_each, reads_records
from statejobs.record.bulk.rows import by_tenant, history_of_all, jobs_of_all
from statejobs.record.bulk.session import held_records, tell_session
from statejobs.record.bulk.unique import enqueue_unique_of_all, is_unique
from statejobs.record.ledger import IDS, Step, clock_of, job_of, value_of
from statejobs.record.model import ResourceModel, models_within
from statejobs.record.specs import BoundTrigger, TransitionSpec
from statejobs.record.written import wake_after_commit
from statejobs.store import bulk as statements
from statejobs.store.adopt import adopt_jobs_of_rows
from statejobs.store.binds import connection_for
from statejobs.store.bulk import MovedRow
from statejobs.store.bulk_move import pick_and_move, pick_and_move_each
from statejobs.store.bulk_preview import AskedJobs, preview, read_preview
from statejobs.store.faults import Fault, fault_of
from statejobs.values.clock import random_id
from statejobs.values.job import BulkDryRun, BulkResult, Enqueued


def move_in_bulk(
    session: Session,
    cls: type,
    declared: TransitionSpec,
    *,
    where: ColumnExpressionArgument[bool],
    values: Values | None,
    args: Mapping[str, object] | None,
    limit: int | None,
) -> BulkResult:
    """Fire *declared* on every record of *cls* that is in a source and matches.

    Raises:
        BulkError: SQL alone cannot do what the transition declares.
        ArgumentsError: *args* do not fit the transition.
        StaleTransitionError: Another transaction is moving one of the records.
    """
    move = check_call(
        session, cls, declared, where=where, values=values, args=args, limit=limit
    )
    connection = connection_for(session, move.model.mapper)
    try:
        # With a limit, those whom nobody holds: only for the last of them it waits.
        result = move_checked(session, connection, move, waits=limit is None)
        if limit is not None and not result.moved:
            result = move_checked(session, connection, move, waits=True)
    except DBAPIError as error:
        if fault_of(error) is Fault.CONFLICT:
            raise _stale(move) from error
        raise
    if move.step.promises and result.moved:
        wake_after_commit(session, connection)
    return result


def count_in_bulk(
    session: Session,
    cls: type,
    declared: TransitionSpec,
    *,
    where: ColumnExpressionArgument[bool],
    values: Values | None,
    args: Mapping[str, object] | None,
    limit: int | None,
) -> BulkDryRun:
    """Count what `move_in_bulk` would do, with one SELECT.

    Raises:
        BulkError: As there.
        ArgumentsError: As there.
    """
    move = check_call(
        session, cls, declared, where=where, values=values, args=args, limit=limit
    )
    connection = connection_for(session, move.model.mapper)
    names, asked = zip(*move.conditions, strict=True) if move.conditions else ((), ())
    enqueues = [
        AskedJobs(bound.dedupe_keys(""), bound.options.unique)
        for bound in move.promised
    ]
    query = preview(move.matching(connection.dialect), asked, enqueues)
    row = connection.execute(query).mappings().one()
    keys = [bound.key for bound in move.promised]
    moved, refused, enqueued = read_preview(row, names, keys)
    return BulkDryRun(moved=moved, refused=refused, enqueued=enqueued)


def check_call(
    session: Session,
    cls: type,
    declared: TransitionSpec,
    *,
    where: ColumnExpressionArgument[bool],
    values: Values | None,
    args: Mapping[str, object] | None,
    limit: int | None,
) -> BulkMove:
    """Return a call of `bulk` that can be made; *session* is flushed.

    Raises:
        BulkError: SQL alone cannot do what the transition declares.
        ArgumentsError: *args* do not fit the transition.
    """
    model = model_of(cls, declared)
    given = declared.signature.bind((), dict(args or {}))
    refuse_body(declared, values)
    session.flush()
    at = clock_of(session.info).now()
    return BulkMove(
        model=model,
        declared=declared,
        where=where,
        conditions=(
            *named_tenant_in_sql(model),
            *permissions_in_sql(cls, declared),
            *guards_in_sql(cls, declared),
        ),
        values={
            **values_in_sql(model, declared, values or {}, by="values="),
            **changes_in_sql(model, declared, at),
        },
        step=Step(
            name=declared.name,
            source=None,
            target=value_of(declared.target),
            promises=model.promised(declared.promises),
            args=given,
            at=at,
        ),
        at=at,
        job=job_of(session.info),
        limit=limit,
    )


def move_checked(
    session: Session, connection: Connection, move: BulkMove, *, waits: bool
) -> BulkResult:
    """Move what matches; it *waits* for who holds a record, or leaves that."""
    salt = session.info.get(IDS, random_id)()
    held = held_records(session, move.model.cls)
    is_simple = connection.dialect.name == "postgresql" and not held
    if is_simple and not _needs_steps(move):
        return _move_at_once(connection, move, salt, waits=waits)
    # What a function of the user's raises leaves no move without its job.
    with connection.begin_nested() if move.reads_records else nullcontext():
        rows, result = _move_by_steps(connection, move, salt, waits=waits)
    tell_session(session, move, held, rows)
    return result


def _move_at_once(
    connection: Connection, move: BulkMove, salt: str, *, waits: bool
) -> BulkResult:
    """Move, write history and enqueue in one statement."""
    matching = move.matching(connection.dialect)
    names = matching.names
    moved = pick_and_move(matching, connection.dialect.name, waits=waits)
    moved = moved.cte(names["moved"])
    rows = statements.numbered(moved, names)
    history = _history(move, move.step, rows) if move.model.has_history else None
    enqueued = [*_jobs(connection, move, move.step, rows, salt)]
    counts = connection.execute(statements.fused(moved, history, enqueued, names)).one()
    return BulkResult(**counts._mapping)  # noqa: SLF001 - its public name


def _move_by_steps(
    connection: Connection, move: BulkMove, salt: str, *, waits: bool
) -> tuple[list[MovedRow], BulkResult]:
    """Move and read back which records moved; then history, jobs left behind, new jobs."""
    dialect = connection.dialect
    matching = move.matching(dialect)
    if dialect.name == "postgresql":
        found = connection.execute(pick_and_move(matching, dialect.name, waits=waits))
        moved = [MovedRow(*row) for row in found]
    else:
        moved = pick_and_move_each(connection, matching)
    outcomes: Counter[str] = Counter()
    for n, (step, part) in enumerate(by_tenant(move.model, move.step, moved)):
        rows = statements.rows_from_python(dialect.name, part)
        if move.model.has_history:
            connection.execute(_history(move, step, rows))
        _end_jobs_left(connection, move, rows)
        _adopt_jobs(connection, move, rows)
        # A salt for each part, since its rows are numbered from the start.
        for jobs in _jobs(connection, move, step, rows, f"{salt}.{n}"):
            outcomes.update(row.outcome for row in connection.execute(jobs))
        for jobs in _jobs_of_each(connection, move, step, part, f"{salt}.{n}"):
            outcomes.update(row.outcome for row in connection.execute(jobs))
        outcomes.update(_enqueue_unique(connection, move, step, part, f"{salt}.{n}"))
    counts = {outcome.value: outcomes[outcome] for outcome in Enqueued}
    return moved, BulkResult(moved=len(moved), **counts)


def _history(move: BulkMove, step: Step, rows: FromClause) -> Any:
    return history_of_all(move.model, step, rows, job=move.job)


def _jobs(
    connection: Connection, move: BulkMove, step: Step, rows: FromClause, salt: str
) -> Iterator[Any]:
    """Yield what enqueues the jobs of each trigger, whose idempotency keys differ."""
    for n, promise in enumerate(step.promises):
        if not (reads_records(move.model, promise) or is_unique(move.model, promise)):
            yield jobs_of_all(
                connection, move.model, promise, step, rows, salt=f"{salt}.{n}"
            )


def _jobs_of_each(
    connection: Connection,
    move: BulkMove,
    step: Step,
    moved: Sequence[MovedRow],
    salt: str,
) -> Iterator[Any]:
    """Yield what enqueues the jobs that are made from their record."""
    for n, promise in enumerate(step.promises):
        if reads_records(move.model, promise) and not is_unique(move.model, promise):
            yield from jobs_of_each(
                connection, move.model, promise, step, moved, salt=f"{salt}.{n}"
            )


def _enqueue_unique(
    connection: Connection,
    move: BulkMove,
    step: Step,
    moved: Sequence[MovedRow],
    salt: str,
) -> Iterator[str]:
    """Enqueue the jobs of triggers that are `Unique`; yield what became of each request."""
    for n, promise in enumerate(step.promises):
        if is_unique(move.model, promise):
            yield from enqueue_unique_of_all(
                connection, move.model, promise, step, moved, salt=f"{salt}.{n}"
            )


def _end_jobs_left(connection: Connection, move: BulkMove, rows: FromClause) -> None:
    """Cancel the waiting jobs, and stop the running ones, that the records left behind."""
    dialect = connection.dialect.name
    reason = {"left_reason": f"left by {move.declared.name}"}
    for bound, sources in _left(move):
        for key in bound.dedupe_keys(""):
            statement = statements.cancel_jobs_of_rows(dialect, rows, key, sources)
            connection.execute(statement, {**reason, "left_at": move.at})
    for bound in _abandoned(move):
        for key in bound.dedupe_keys(""):
            during = (bound.during or "",)
            ask = statements.ask_jobs_of_rows_to_cancel(dialect, rows, key, during)
            connection.execute(ask, reason)


def _adopt_jobs(connection: Connection, move: BulkMove, rows: FromClause) -> None:
    """Let what is enqueued go on with jobs that wait under a former key of its trigger."""
    dialect = connection.dialect.name
    sources = [value_of(state) for state in move.declared.source]
    for bound in move.promised:
        for former in bound.former_prefixes:
            adopt = adopt_jobs_of_rows(dialect, rows, former, bound.prefix, sources)
            connection.execute(adopt)


def _needs_steps(move: BulkMove) -> bool:
    """Return whether what it enqueues, or the jobs that it meets, need more than one statement."""
    bounds = move.promised
    asks = any(bound.aliases or bound.options.unique is not None for bound in bounds)
    meets_jobs = asks or any(_left(move)) or any(_abandoned(move))
    return meets_jobs or move.reads_records or move.model.tenant is not None


def _left(move: BulkMove) -> list[tuple[BoundTrigger, tuple[str, ...]]]:
    """Triggers whose jobs wait in a source of the move, and no longer in its target."""
    sources = [value_of(state) for state in move.declared.source]
    found = {}
    for within in models_within(move.model):
        for key, bound in within.triggers.items():
            departures = within.departures[key]
            leaving = tuple(source for source in sources if source in departures)
            if leaving and move.step.target not in bound.sources:
                found[key] = (bound, leaving)
    return list(found.values())


def _abandoned(move: BulkMove) -> list[BoundTrigger]:
    """Triggers whose jobs run in a source of the move that it leaves."""
    sources = {value_of(state) for state in move.declared.source} - {move.step.target}
    return [bound for bound in _triggers(move.model) if bound.during in sources]


def _triggers(model: ResourceModel) -> Iterable[BoundTrigger]:
    """Return the triggers of the records that it may move: of its class and of subclasses."""
    return {
        key: bound
        for within in models_within(model)
        for key, bound in within.triggers.items()
    }.values()


def _stale(move: BulkMove) -> StaleTransitionError:
    return StaleTransitionError(
        move.declared.name,
        record=f"{move.model.cls.__name__} (many)",
        expected=" or ".join(value_of(state) for state in move.declared.source),
        found="a state that another transaction is changing",
    )
