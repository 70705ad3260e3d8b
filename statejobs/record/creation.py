"""Serves `insert(Model)`: the records are created with the history and the jobs of a flush.

The statement itself is the user's. It also returns the keys of what it inserted; history and jobs
are then written with one statement each, on the same connection.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection
from sqlalchemy.engine import IteratorResult, Result
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.orm import ORMExecuteState, Session

from statejobs.errors import BulkError
from statejobs.record.beginning import creation
from statejobs.record.bulk.rows import by_tenant, history_of_all, jobs_of_all
from statejobs.record.defaults import CREATED_AT
from statejobs.record.identity import encode_identity
from statejobs.record.ledger import IDS, clock_of, job_of, value_of
from statejobs.record.lives import begin_lives_of_all, draws_keys, reuses_keys
from statejobs.record.model import models_within
from statejobs.record.written import wake_after_commit
from statejobs.store.binds import connection_for
from statejobs.store.bulk import MovedRow, rows_from_python
from statejobs.store.inserted import returning_keys
from statejobs.store.missing import explain_missing_tables
from statejobs.values.article import indefinite
from statejobs.values.clock import random_id

if TYPE_CHECKING:
    from statejobs.record.ledger import Step
    from statejobs.record.model import ResourceModel


class Inserted(IteratorResult[Any]):
    """The answer to an INSERT without RETURNING: it has no rows, and counts what was inserted."""

    def __init__(self, rowcount: int, keys: Sequence[Any]) -> None:
        """Answer that *rowcount* rows were written; *keys* are those of the inserted ones."""
        super().__init__(SimpleResultMetaData([]), iter([]))
        self.close()
        self.rowcount = rowcount
        self.returns_rows = False
        self.is_insert = True
        self.inserted_primary_key_rows = keys

    @property
    def inserted_primary_key(self) -> Any:
        """The key of the row, when one was inserted."""
        return (
            self.inserted_primary_key_rows[0]
            if len(self.inserted_primary_key_rows) == 1
            else None
        )


def refuse_creation(
    model: ResourceModel, *, dialect: str, updates: Sequence[object]
) -> None:
    """Refuse to create records whose history and jobs one statement for all cannot write.

    Raises:
        BulkError: With the way that works.
    """
    name = model.cls.__name__
    if len(model.mapper.tables) > 1:
        raise BulkError(
            f"insert({name})",
            "its records lie in several tables, under joined inheritance",
            why="their history and jobs need keys that only a flush hands from table to table",
            fix=f"make objects: session.add_all([{name}(…), …])",
        )
    if updates and dialect != "postgresql":
        raise BulkError(
            f"insert({name}).on_conflict_do_update(…)",
            f"{dialect} does not tell which rows it inserted and which it updated",
            why="only those that it inserted are created: they get history, and jobs",
            fix=f"insert with on_conflict_do_nothing(), then update({name}) what was there",
        )
    for other in models_within(model):
        _refuse_jobs(model, other)


def _refuse_jobs(model: ResourceModel, other: ResourceModel) -> None:
    name = model.cls.__name__
    step = creation(other, value_of(other.state.initial))
    if (
        step.promises != creation(model, step.target).promises
        or other.has_history != model.has_history
    ):
        raise BulkError(
            f"insert({name})",
            f"for {indefinite(other.cls.__name__)} creation promises other jobs or history",
            why="one statement for all writes the same for all",
            fix=f"make objects: session.add_all([{other.cls.__name__}(…), …])",
        )
    for promise in step.promises:
        made = other.triggers[promise.key].options.of_record
        if made is not None:
            raise BulkError(
                f"insert({name})",
                f"trigger {promise.key!r} makes its {made}= from the record, in Python",
                why="an INSERT makes no record in Python",
                fix=f"give {made}= fixed values and let the action read its record, "
                f"or make objects: session.add_all([{name}(…), …])",
            )


def create_records(
    execution: ORMExecuteState,
    statement: Any,
    model: ResourceModel,
    *,
    names: Container[str],
    updates: Sequence[object],
) -> Result[Any]:
    """Execute an INSERT of records of *model*, and write their history and their jobs.

    Args:
        execution: The user's, which is to be answered.
        statement: The INSERT.
        model: What it creates.
        names: The attributes or columns that it sets.
        updates: The columns that it sets where a row is there already.

    Raises:
        BulkError: One statement for all cannot write them.
    """
    session = execution.session
    dialect = connection_for(session, model.mapper).dialect.name
    refuse_creation(model, dialect=dialect, updates=updates)
    at = clock_of(session.info).now()
    keys = model.records.keys
    returning = returning_keys(
        statement, model.records, tenant=model.tenant_column, tells_new=bool(updates)
    )
    frozen = execution.invoke_statement(
        statement=returning, execution_options={CREATED_AT: at}
    ).freeze()
    ours = len(keys) + (model.tenant is not None) + bool(updates)
    rows = [tuple(row[-ours:]) for row in frozen()]
    new = [row for row in rows if not updates or row[-1]]
    created = [row[: len(keys)] for row in new]
    tenants = [None if model.tenant is None else row[len(keys)] for row in new]
    moved = [
        MovedRow(encode_identity(key), 0, None, tenant)
        for key, tenant in zip(created, tenants, strict=True)
    ]
    step = creation(model, value_of(model.state.initial))
    step.at = at
    write_creation(session, model, step, moved, are_drawn=draws_keys(model, names))
    if not statement._returning:  # noqa: SLF001 - told by no public name
        return Inserted(len(rows), _named(keys, created))
    return frozen().columns(*range(len(frozen().keys()) - ours))


def _named(keys: Sequence[Any], created: Sequence[tuple[Any, ...]]) -> Sequence[Any]:
    """Return the keys that were *created* as rows, as `inserted_primary_key` is one."""
    return IteratorResult(
        SimpleResultMetaData([key.key for key in keys]), iter(created)
    ).all()


def write_creation(
    session: Session,
    model: ResourceModel,
    step: Step,
    created: Sequence[MovedRow],
    *,
    are_drawn: bool,
) -> None:
    """Write history and jobs of records that were *created*.

    Keys that the database drew are new; others may be those of earlier records.
    """
    connection = connection_for(session, model.mapper)
    salt = session.info.get(IDS, random_id)()
    assert step.at is not None  # noqa: S101 - a step of many is made now
    at = step.at
    with explain_missing_tables(connection):
        for n, (own, part) in enumerate(by_tenant(model, step, created)):
            if not are_drawn or reuses_keys(connection):
                begin_lives_of_all(
                    connection, model, (row.record_id for row in part), at
                )
            _write_part(
                connection,
                model,
                own,
                part,
                job=job_of(session.info),
                salt=f"{salt}.{n}",
            )
    if created and step.promises:
        wake_after_commit(session, connection)


def _write_part(
    connection: Connection,
    model: ResourceModel,
    step: Step,
    part: Sequence[MovedRow],
    *,
    job: Mapping[str, int | None],
    salt: str,
) -> None:
    rows = rows_from_python(connection.dialect.name, part)
    if model.has_history:
        connection.execute(history_of_all(model, step, rows, job=job))
    for n, promise in enumerate(step.promises):
        jobs = jobs_of_all(connection, model, promise, step, rows, salt=f"{salt}.{n}")
        connection.execute(jobs)
