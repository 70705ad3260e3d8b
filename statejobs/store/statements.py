"""One function for each statement; each serves both databases.

Lists of ids are expanding parameters, so that every statement compiles once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import (
    BindParameter,
    Executable,
    Select,
    Table,
    and_,
    any_,
    bindparam,
    case,
    delete,
    exists,
    false,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.elements import ColumnElement

from statejobs.domain.job import ENDED, WAITING, JobState, NewJob
from statejobs.store.tables import (
    IS_OPEN,
    IS_PROCESSING,
    IS_QUEUED,
    IS_WAITING_FOR_TIME,
    attempts,
    jobs,
    literal_state,
    nodes,
    transitions,
)

J = JobState
KEYS: BindParameter[str] = bindparam("keys", expanding=True)


NEW_JOB_COLUMNS = [item.name for item in fields(NewJob)]
HISTORY_COLUMNS = [column.name for column in transitions.columns if column.name != "id"]


def is_listed(column: ColumnElement[Any], dialect: str) -> ColumnElement[bool]:
    """Return whether *column* is among the parameter `ids`."""
    if dialect == "postgresql":  # an array: the text stays the same, so it is prepared once
        return column == any_(bindparam("ids", type_=postgresql.ARRAY(column.type)))
    return column.in_(bindparam("ids", expanding=True))


def _is(*states: JobState) -> ColumnElement[bool]:
    return jobs.c.state.in_([literal_state(state) for state in states])


# Enqueue -----------------------------------------------------------------------------------------


def enqueue_jobs(dialect: str, *, arrays: bool = False, constant: Collection[str] = ()) -> Any:
    """Insert jobs; on an open job of the same trigger and record, go on with that one.

    Waiting: it takes the new arguments and time, and its attempts start anew. Processing: it will
    run again. Cancelled or discarded: it is revived, its attempts continue and its ceiling rises.
    Returns id, dedupe_key, coalesced, state and attempt of each.
    """
    statement = postgresql.insert(jobs) if dialect == "postgresql" else sqlite.insert(jobs)
    if arrays:
        rows = _rows_of_arrays(jobs, NEW_JOB_COLUMNS, constant)
        statement = statement.from_select(NEW_JOB_COLUMNS, rows)
    new = statement.excluded
    runs = jobs.c.state == literal_state(J.PROCESSING)
    waits = _is(*WAITING)
    ended = _is(*ENDED)
    taken_over = {
        name: new[name]
        for name in ("queue", "priority", "run_at", "args", "actor", "tenant", "tags")
    }
    upsert = statement.on_conflict_do_update(
        index_elements=[jobs.c.dedupe_key],
        index_where=IS_OPEN,
        set_={
            **taken_over,
            "state": case((runs, jobs.c.state), else_=new.state),
            "run_again": runs,
            "attempt": case((waits, 0), else_=jobs.c.attempt),
            "max_attempts": case(
                (ended, jobs.c.attempt + new.max_attempts),
                (runs, jobs.c.max_attempts),
                else_=new.max_attempts,
            ),
            "crashes": case((runs, jobs.c.crashes), else_=0),
            "coalesced": jobs.c.coalesced + 1,
            "cancel_requested": and_(runs, jobs.c.cancel_requested),
            "finished_at": None,
            "reason": case((runs, jobs.c.reason), else_=None),
        },
    )
    returned: list[ColumnElement[object]] = [
        jobs.c.id, jobs.c.dedupe_key, jobs.c.coalesced, jobs.c.state, jobs.c.attempt,
    ]  # fmt: skip
    if dialect == "postgresql":
        # A subquery of its own runs once for the statement, not for each row.
        hint = select(func.pg_notify(wake_channel(), literal_column("''")))
        returned.append(hint.scalar_subquery().label("hint"))
    return upsert.returning(*returned)


def wake_channel() -> ColumnElement[str]:
    """Return the channel of this installation: one for each schema."""
    return func.concat(literal_column("'statejobs_'"), func.current_schema())


def cancel_left_jobs(states: Sequence[JobState] = WAITING) -> Executable:
    """Cancel waiting jobs whose record has left the state that promised them."""
    return (
        update(jobs)
        .where(jobs.c.dedupe_key == bindparam("left_key"), _is(*states))
        .values(
            state=literal_state(J.CANCELLED),
            reason=bindparam("left_reason"),
            finished_at=bindparam("left_at", type_=jobs.c.finished_at.type),
        )
    )


def ask_to_cancel() -> Executable:
    """Tell a running job that its record was moved away."""
    return (
        update(jobs)
        .where(jobs.c.dedupe_key == bindparam("left_key"), IS_PROCESSING)
        .values(cancel_requested=True, reason=bindparam("left_reason"))
    )


def insert_transitions(*, arrays: bool = False, constant: Collection[str] = ()) -> Any:
    """Write rows of history."""
    if not arrays:
        values = {n: bindparam(n, type_=transitions.c[n].type) for n in HISTORY_COLUMNS}
        return insert(transitions).values(values).inline()
    rows = _rows_of_arrays(transitions, HISTORY_COLUMNS, constant)
    return insert(transitions).from_select(HISTORY_COLUMNS, rows)


def _rows_of_arrays(table: Table, columns: Sequence[str], constant: Collection[str]) -> Select[Any]:
    """Return rows made of one array for each column: one short statement however many rows.

    A column that is *constant* comes as one value.
    """
    return select(
        *(
            bindparam(name, type_=table.c[name].type)
            if name in constant
            else func.unnest(bindparam(name, type_=postgresql.ARRAY(table.c[name].type)))
            for name in columns
        )
    )


# Claim -------------------------------------------------------------------------------------------


def peek(queues: Sequence[str]) -> Select[Any]:
    """Look, without locking, when the next job is due and which queues have work."""
    next_due = select(func.min(jobs.c.run_at)).where(IS_WAITING_FOR_TIME).scalar_subquery()
    ready = [
        exists().where(IS_QUEUED, jobs.c.queue == queue, jobs.c.key.in_(KEYS)).label(f"q{number}")
        for number, queue in enumerate(queues)
    ]
    return select(next_due.label("next_due"), *ready)


def stage_due_jobs() -> Executable:
    """Queue the scheduled and failed jobs whose time has come, oldest first."""
    due = (
        select(jobs.c.id)
        .where(IS_WAITING_FOR_TIME, jobs.c.run_at <= bindparam("now", type_=jobs.c.run_at.type))
        .order_by(jobs.c.run_at)
        .limit(bindparam("limit"))
        .with_for_update(skip_locked=True)
        .cte("due")  # a CTE is read once; an IN-subquery's LIMIT may run twice
    )
    return (
        update(jobs)
        .where(jobs.c.id.in_(select(due.c.id)), IS_WAITING_FOR_TIME)
        .values(state=literal_state(J.QUEUED))
        .returning(jobs.c.id, jobs.c.queue)
    )


def lock_queued_jobs() -> Select[Any]:
    """Lock the best queued jobs of a queue, waiting for nobody."""
    return (
        select(jobs)
        .where(IS_QUEUED, jobs.c.queue == bindparam("queue"), jobs.c.key.in_(KEYS))
        .order_by(jobs.c.priority, jobs.c.run_at, jobs.c.id)
        .limit(bindparam("limit"))
        .with_for_update(skip_locked=True)
    )


def mark_processing(dialect: str) -> Executable:
    """Claim jobs: the attempt counts from here. Those of `ids`, or one each time: `job_id`."""
    has_arrays = dialect == "postgresql"
    return (
        update(jobs)
        .where(is_listed(jobs.c.id, dialect) if has_arrays else jobs.c.id == bindparam("job_id"))
        .values(
            state=literal_state(J.PROCESSING),
            attempt=jobs.c.attempt + 1,
            owner=bindparam("by"),
            token=bindparam("new_token"),
            lease_until=bindparam("until", type_=jobs.c.lease_until.type),
            started_at=bindparam("now", type_=jobs.c.started_at.type),
            record_source=bindparam("source"),
            cancel_requested=false(),
            progress=None,
        )
    )


def postpone_jobs(dialect: str) -> Executable:
    """Put queued jobs back for a moment, since someone holds their records."""
    return (
        update(jobs)
        .where(is_listed(jobs.c.id, dialect))
        .values(
            state=literal_state(J.SCHEDULED),
            run_at=bindparam("until", type_=jobs.c.run_at.type),
        )
    )


def cancel_stale_job() -> Executable:
    """Cancel a locked, queued job whose record no longer satisfies its source."""
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("job_id"))
        .values(
            state=literal_state(J.CANCELLED),
            reason=bindparam("why"),
            finished_at=bindparam("now", type_=jobs.c.finished_at.type),
        )
    )


# Hold --------------------------------------------------------------------------------------------


def renew_leases(dialect: str) -> Executable:
    """Extend the leases of running jobs; those no longer ours are not returned."""
    return (
        update(jobs)
        .where(is_listed(jobs.c.id, dialect), jobs.c.owner == bindparam("by"), IS_PROCESSING)
        .values(lease_until=bindparam("until", type_=jobs.c.lease_until.type))
        .returning(jobs.c.id, jobs.c.token, jobs.c.cancel_requested, jobs.c.reason)
    )


def lock_jobs(dialect: str) -> Select[Any]:
    """Lock jobs by their ids, in order."""
    listed = select(jobs.c.id).where(is_listed(jobs.c.id, dialect))
    return listed.order_by(jobs.c.id).with_for_update(key_share=True)


def find_expired_jobs() -> Select[Any]:
    """Find, without locking, processing jobs whose lease ran out, longest first."""
    return (
        select(jobs.c.id)
        .where(
            IS_PROCESSING,
            jobs.c.lease_until < bindparam("now", type_=jobs.c.lease_until.type),
            jobs.c.key.in_(KEYS),
        )
        .order_by(jobs.c.lease_until)
        .limit(bindparam("limit"))
    )


def lock_expired_job() -> Select[Any]:
    """Lock one processing job whose lease is still over, waiting for nobody."""
    return (
        select(jobs)
        .where(
            IS_PROCESSING,
            jobs.c.id == bindparam("job_id"),
            jobs.c.lease_until < bindparam("now", type_=jobs.c.lease_until.type),
        )
        .with_for_update(skip_locked=True)
    )


def note_on_job(column: str) -> Executable:
    """Write progress or checkpoint of a job that is still ours."""
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("job_id"), jobs.c.token == bindparam("held"), IS_PROCESSING)
        .values({column: bindparam("note")})
    )


# Finish ------------------------------------------------------------------------------------------


def finish_job() -> Executable:
    """Fence and settle a processing job; zero rows mean that it is no longer ours.

    A job that was enqueued while it ran is queued anew when its record rests in a source; or
    scheduled, when it was enqueued for a time that has not come.
    """
    again = and_(jobs.c.run_again, bindparam("rests_in_source", type_=jobs.c.run_again.type))
    later = and_(again, jobs.c.run_at > bindparam("finished_now", type_=jobs.c.run_at.type))
    keep_time = bindparam("next_run_at", type_=jobs.c.run_at.type)
    return (
        update(jobs)
        .where(
            jobs.c.id == bindparam("job_id"),
            jobs.c.attempt == bindparam("held_attempt"),
            jobs.c.token == bindparam("held"),
            IS_PROCESSING,
        )
        .values(
            state=case(
                (later, literal_state(J.SCHEDULED)),
                (again, literal_state(J.QUEUED)),
                else_=bindparam("new_state"),
            ),
            attempt=case((again, 0), else_=bindparam("new_attempt")),
            max_attempts=case((again, bindparam("allowance")), else_=jobs.c.max_attempts),
            crashes=case((again, 0), else_=bindparam("new_crashes")),
            run_at=case((again, jobs.c.run_at), else_=func.coalesce(keep_time, jobs.c.run_at)),
            finished_at=case(
                (again, None), else_=bindparam("ended_at", type_=jobs.c.finished_at.type)
            ),
            reason=case((again, None), else_=bindparam("why")),
            checkpoint=case(
                (or_(again, bindparam("is_ended", type_=jobs.c.run_again.type)), None),
                else_=jobs.c.checkpoint,
            ),
            run_again=false(),
            cancel_requested=false(),
            owner=None,
            token=None,
            lease_until=None,
        )
        .returning(jobs.c.state)
    )


def lock_held_job() -> Select[Any]:
    """Lock a processing job that is still ours; return whether it shall stop, and why."""
    return (
        select(jobs.c.cancel_requested, jobs.c.reason)
        .where(jobs.c.id == bindparam("job_id"), jobs.c.token == bindparam("held"), IS_PROCESSING)
        .with_for_update()
    )


def insert_attempts() -> Executable:
    """Write rows for attempts that did not complete."""
    return insert(attempts)


# People ------------------------------------------------------------------------------------------


def cancel_waiting_job() -> Executable:
    """Cancel a job that waits."""
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("job_id"), _is(*WAITING))
        .values(
            state=literal_state(J.CANCELLED),
            reason=bindparam("why"),
            finished_at=bindparam("now", type_=jobs.c.finished_at.type),
        )
    )


def request_cancel() -> Executable:
    """Ask a running job to stop."""
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("job_id"), IS_PROCESSING)
        .values(cancel_requested=True, reason=bindparam("why"))
    )


def requeue_job() -> Executable:
    """Queue a waiting or ended job at once; an ended one gets *allowance* further attempts."""
    ended = _is(*ENDED)
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("job_id"), _is(*WAITING, *ENDED))
        .values(
            state=literal_state(J.QUEUED),
            run_at=bindparam("now", type_=jobs.c.run_at.type),
            max_attempts=case(
                (ended, jobs.c.attempt + bindparam("allowance")), else_=jobs.c.max_attempts
            ),
            crashes=case((ended, 0), else_=jobs.c.crashes),
            finished_at=None,
            reason=None,
        )
    )


# Nodes -------------------------------------------------------------------------------------------


def insert_node() -> Executable:
    """Register a worker process."""
    return insert(nodes)


def beat_node() -> Executable:
    """Say that a worker process lives."""
    return (
        update(nodes)
        .where(nodes.c.id == bindparam("node_id"))
        .values(beat_at=bindparam("now", type_=nodes.c.beat_at.type))
    )


def delete_node() -> Executable:
    """Remove a worker process that stops."""
    return delete(nodes).where(nodes.c.id == bindparam("node_id"))


def delete_silent_nodes() -> Executable:
    """Forget worker processes that have been silent since *before*."""
    return delete(nodes).where(nodes.c.beat_at < bindparam("before", type_=nodes.c.beat_at.type))


# Looking -----------------------------------------------------------------------------------------


def count_jobs() -> Select[Any]:
    """Count jobs by queue and state."""
    return (
        select(jobs.c.queue, jobs.c.state, func.count())
        .group_by(jobs.c.queue, jobs.c.state)
        .order_by(jobs.c.queue, jobs.c.state)
    )


def oldest_queued() -> Select[Any]:
    """Return for each queue since when its oldest queued job waits."""
    return select(jobs.c.queue, func.min(jobs.c.run_at)).where(IS_QUEUED).group_by(jobs.c.queue)


def find_jobs_of_record(resource: str, record_id: str, keys: Sequence[str]) -> Executable:
    """Find the ids of the jobs of a record: the completed in its history, the others by key."""
    completed = (
        select(transitions.c.job_id)
        .where(transitions.c.resource == resource, transitions.c.record_id == record_id)
        .where(transitions.c.job_id.is_not(None))
    )
    others = select(jobs.c.id).where(
        jobs.c.dedupe_key.in_([f"{key}:{record_id}" for key in keys]), IS_OPEN
    )
    return completed.union(others)
