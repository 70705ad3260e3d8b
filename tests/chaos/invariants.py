"""The invariant view: record against job against history, as one SELECT and so one snapshot.

Every row that it returns is a lie that somebody could read: `rule`, `resource`, `record_id`,
`job_id`, `detail`. The rules come from the declared machines, so they fit any app whose sources
are entered by transitions with `run_trigger` only.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

from sqlalchemy import (
    CompoundSelect,
    Connection,
    Select,
    String,
    Text,
    and_,
    case,
    cast,
    false,
    func,
    literal,
    null,
    or_,
    select,
    true,
    type_coerce,
    union_all,
)

from statejobs import StateJobs
from statejobs.store.tables import attempts, jobs, transitions
from statejobs.values.job import ENDED, WAITING, JobOutcome, JobState

EVER = datetime(1970, 1, 1, tzinfo=UTC)
_WAITS = jobs.c.state.in_([state.value for state in WAITING])
_RUNS = jobs.c.state == JobState.PROCESSING.value
_IS_SUPERSEDED = jobs.c.cancel_requested
_IS_STUCK = and_(
    jobs.c.state == JobState.DISCARDED.value, jobs.c.reason.like("stuck: %")
)
"""An exception to "record and job agree": the database lets nobody move the record."""
IS_UNREAD = and_(
    jobs.c.state == JobState.DISCARDED.value,
    jobs.c.reason.like("its row cannot be read: %"),
)
"""The other one: what cannot be read names no record that could be moved."""


def violations(
    connection: Connection, app: StateJobs, *, since: datetime = EVER
) -> list[dict]:
    """Return every row of the view, for the records that moved after *since*."""
    rows = connection.execute(invariant_view(app, since=since))
    return [dict(row._mapping) for row in rows]


def invariant_view(app: StateJobs, *, since: datetime = EVER) -> CompoundSelect:
    """Return the view of everything that *app* declares.

    Args:
        app: Whose machines.
        since: Look only at records that moved after it, and at live jobs.
    """
    rules = []
    for model in app.registry.resources.values():
        rules += _rules_of_records(model, since)
        for bound in model.triggers.values():
            rules += _rules_of_trigger(model, bound, since)
    return union_all(*rules, *_rules_of_jobs(since))


def _rules_of_records(model, since) -> Iterator[Select]:
    record = _records(model, since)
    history = transitions.alias()
    mine = and_(
        history.c.resource == model.name, history.c.record_id == record.c.record_id
    )

    last = select(func.max(history.c.version)).where(mine).scalar_subquery()
    newest = (
        select(history.c.target)
        .where(mine, history.c.version == record.c.version)
        .limit(1)
        .scalar_subquery()
    )
    yield _row(
        "state is not the last of history", model, record, detail=record.c.state
    ).where(or_(func.coalesce(last, -1) != record.c.version, newest != record.c.state))

    leaves = func.coalesce(history.c.source != history.c.target, true())
    count = select(func.count()).where(mine, leaves).scalar_subquery()
    yield _row(
        "history has a gap or a version twice", model, record, detail=_text(count)
    ).where(count != record.c.version + 1)

    of_these = and_(
        history.c.resource == model.name,
        history.c.record_id.in_(select(record.c.record_id)),
    )
    in_turn = {
        "partition_by": history.c.record_id,
        "order_by": (history.c.version, history.c.id),
    }
    steps = (
        select(
            history.c.record_id,
            history.c.name,
            history.c.version,
            history.c.source,
            case((leaves, 1), else_=0).label("counts"),
            func.lag(history.c.target).over(**in_turn).label("came_from"),
            func.lag(history.c.version).over(**in_turn).label("version_before"),
        )
        .where(of_these)
        .subquery()
    )
    begins = and_(steps.c.version == 0, steps.c.source.is_(None))
    goes_on = and_(  # a step that keeps the state keeps the version
        func.coalesce(steps.c.source == steps.c.came_from, false()),
        func.coalesce(
            steps.c.version == steps.c.version_before + steps.c.counts, false()
        ),
    )
    yield _row("history is no chain", model, steps, detail=steps.c.name).where(
        ~or_(begins, goes_on)
    )

    is_declared = or_(
        and_(history.c.source.is_(None), history.c.target == model.spec.initial),
        *(
            and_(
                history.c.name == edge.name,
                history.c.source.in_(edge.sources),
                history.c.target == edge.target,
            )
            for edge in model.spec.edges
        ),
        *(
            and_(
                history.c.name == "rescue",  # a stuck record, by `job retry`
                history.c.source == bound.during,
                history.c.target.in_(bound.sources),
            )
            for bound in model.triggers.values()
            if bound.during is not None
        ),
    )
    yield (
        _row(
            "history took an edge that nobody declared",
            model,
            history,
            detail=history.c.name,
        ).where(of_these, ~is_declared)
    )


def _rules_of_trigger(model, bound, since) -> Iterator[Select]:
    record = _records(model, since)
    live = (  # grouped once: a count for each record would read all jobs for each
        select(
            jobs.c.record_id,
            func.sum(case((or_(_WAITS, IS_UNREAD), 1), else_=0)).label("waiting"),
            func.sum(case((or_(_RUNS, _IS_STUCK), 1), else_=0)).label("running"),
        )
        .where(
            jobs.c.key == bound.key,
            jobs.c.resource == model.name,
            or_(_WAITS, _RUNS, _IS_STUCK, IS_UNREAD),
        )
        .group_by(jobs.c.record_id)
        .subquery()
    )
    for rule, wanted, count in (
        (
            "promised job is missing, or twice",
            record.c.state.in_(bound.sources),
            live.c.waiting,
        ),
        ("record runs without a job", record.c.state == bound.during, live.c.running),
    ):
        found = func.coalesce(count, 0)
        yield (
            _row(rule, model, record, detail=_text(found))
            .join_from(
                record, live, live.c.record_id == record.c.record_id, isouter=True
            )
            .where(wanted, found != 1)
        )
    everywhere = _records(model, EVER)
    theirs = and_(
        jobs.c.key == bound.key,
        jobs.c.resource == model.name,
        jobs.c.record_id == everywhere.c.record_id,
    )
    elsewhere = func.coalesce(everywhere.c.state, literal("no such record"))
    at = (_name(model), jobs.c.record_id, jobs.c.id, elsewhere)
    joined = select(_rule("job waits for a record that is elsewhere"), *at).join_from(
        jobs, everywhere, theirs, isouter=True
    )
    yield joined.where(
        jobs.c.key == bound.key,
        _WAITS,
        # a page locks no record: one that left meanwhile is told at the claim
        jobs.c.tick_at.is_(None),
        elsewhere.not_in(bound.sources),
    )
    ran = select(_rule("job runs on a record that is elsewhere"), *at).join_from(
        jobs, everywhere, theirs, isouter=True
    )
    yield ran.where(
        jobs.c.key == bound.key, _RUNS, elsewhere != bound.during, ~_IS_SUPERSEDED
    )


def _rules_of_jobs(since) -> Iterator[Select]:
    at = (jobs.c.resource, jobs.c.record_id, jobs.c.id, jobs.c.state)
    ended = jobs.c.state.in_([state.value for state in ENDED])
    # No owner: its record could not be moved back, and the next rescue tries again.
    unheld = or_(jobs.c.token.is_(None), jobs.c.lease_until.is_(None))
    yield select(_rule("running job has no lease"), *at).where(_RUNS, unheld)
    yield select(_rule("ended job has no end"), *at).where(
        ended, jobs.c.finished_at.is_(None)
    )
    ways = or_(
        *(
            and_(jobs.c.outcome == way.value, jobs.c.state == way.state.value)
            for way in JobOutcome
        )
    )
    yield select(_rule("job has no outcome for its end, or one before it"), *at).where(
        ~or_(and_(~ended, jobs.c.outcome.is_(None)), func.coalesce(ways, false()))
    )
    yield select(_rule("job has more attempts than it may"), *at).where(
        jobs.c.attempt > jobs.c.max_attempts
    )
    known = [state.value for state in JobState]
    yield select(_rule("job is in no known state"), *at).where(
        jobs.c.state.not_in(known)
    )
    recent = or_(~ended, jobs.c.finished_at >= since)

    took_edge = (
        select(transitions.c.id)
        .where(
            transitions.c.resource == jobs.c.resource,
            transitions.c.record_id == jobs.c.record_id,
            transitions.c.job_id == jobs.c.id,
            transitions.c.name.like("%.complete"),
        )
        .exists()
    )
    yield select(_rule("completed job moved no record"), *at).where(
        recent,
        jobs.c.resource.is_not(None),
        jobs.c.state == JobState.COMPLETED.value,
        ~took_edge,
    )

    spent = (
        select(func.count())
        .where(attempts.c.job_id == jobs.c.id, attempts.c.outcome != "on_discard")
        .scalar_subquery()
    )
    open_or_done = case(
        (jobs.c.state.in_([JobState.PROCESSING.value, JobState.COMPLETED.value]), 1),
        else_=0,
    )
    yield select(_rule("attempts do not add up"), *at).where(
        recent,
        jobs.c.attempt != spent + open_or_done + case((_was_overtaken(), 1), else_=0),
    )


def _was_overtaken():
    """Whether the history of the record alone tells how the last attempt of a job ended."""
    recorded = select(attempts.c.id).where(
        attempts.c.job_id == jobs.c.id, attempts.c.attempt == jobs.c.attempt
    )
    mine = transitions.alias()
    its_last = select(func.max(mine.c.id)).where(
        mine.c.resource == jobs.c.resource,
        mine.c.record_id == jobs.c.record_id,
        mine.c.job_id == jobs.c.id,
    )
    moved = select(transitions.c.id).where(
        transitions.c.resource == jobs.c.resource,
        transitions.c.record_id == jobs.c.record_id,
        transitions.c.id > its_last.correlate(jobs).scalar_subquery(),
    )
    return and_(
        jobs.c.outcome == JobOutcome.SUPERSEDED.value,
        ~recorded.correlate(jobs).exists(),
        moved.correlate(jobs).exists(),
    )


def _records(model, since):
    """The records of *model*, in one shape: record_id as jobs and history have it, state."""
    (key,) = model.table.primary_key.columns
    text = isinstance(key.type, String)
    record_id = literal('"') + key + literal('"') if text else cast(key, Text)
    return (
        select(
            record_id.label("record_id"),
            type_coerce(model.state_column, String()).label("state"),
            model.table.c.state_version.label("version"),
        )
        .where(model.table.c.state_changed_at >= since)
        .subquery()
    )


def _row(rule: str, model, record, *, detail) -> Select:
    no_job = cast(null(), jobs.c.id.type).label("job_id")
    return select(
        _rule(rule), _name(model), record.c.record_id, no_job, detail.label("detail")
    )


def _rule(rule: str):
    return literal(rule, Text()).label("rule")


def _name(model):
    return literal(model.name, Text()).label("resource")


def _text(count):
    return cast(count, Text)
