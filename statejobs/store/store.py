"""Jobs at rest: runs the statements and maps their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, CursorResult, Dialect, Engine, Row, select

from statejobs.domain.failure import Failure
from statejobs.domain.job import Enqueued, EnqueueResult, Job, JobState, NewJob
from statejobs.domain.lifecycle import Settlement
from statejobs.store import statements
from statejobs.store.lazy_begin import AUTOCOMMIT, begin_lazily, begin_now
from statejobs.store.prepared import Prepared
from statejobs.store.tables import attempts, jobs, nodes, transitions


@dataclass(frozen=True, slots=True, kw_only=True)
class Peek:
    """What a glance at the queues showed."""

    next_due: datetime | None
    ready: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A renewed lease."""

    job_id: int
    token: str
    cancel_requested: bool
    reason: str | None
    """Why, when a cancel was asked for; otherwise what an earlier attempt left."""


class Store:
    """The job tables of one database.

    Every method takes the connection on which it works, except those that are a transaction of
    their own. Nothing here reads a clock.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.dialect = engine.dialect.name
        self.working = working_engine(engine)
        """Reads in autocommit, begins at the first write; workers use this one."""
        self._mark = Prepared(statements.mark_processing(self.dialect), engine.dialect)
        self._postpone = statements.postpone_jobs(self.dialect)
        self._renew = statements.renew_leases(self.dialect)
        self._lock_jobs = statements.lock_jobs(self.dialect)
        self._peeks: dict[tuple[str, ...], Any] = {}

    @contextmanager
    def transaction(self, *, flushes: bool = True) -> Iterator[Connection]:
        """Open a connection with a write transaction; commit at the end, roll back on error.

        Args:
            flushes: Whether the commit waits until it is on the disk of a PostgreSQL server.
        """
        with self.working.connect() as connection:
            is_lazy = not flushes and self.dialect == "postgresql"
            begin_now(connection, then=_DO_NOT_FLUSH if is_lazy else "")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    @property
    def can_fuse(self) -> bool:
        """Whether one statement may move a record, finish its job and write history."""
        return self.dialect == "postgresql"

    @contextmanager
    def single(self) -> Iterator[Connection]:
        """Open a connection for one statement that is its own transaction."""
        with self.working.connect() as connection:
            yield connection.execution_options(**{AUTOCOMMIT: True})

    # Claim

    def peek(self, queues: Sequence[str], keys: Sequence[str]) -> Peek:
        """Look which of *queues* have work for *keys*, and when the next job is due."""
        names = tuple(queues)
        statement = self._peeks.setdefault(names, statements.peek(names))
        with self.single() as connection:
            row = connection.execute(statement, {"keys": list(keys)}).one()
        ready = frozenset(name for name, has_work in zip(names, row[1:], strict=True) if has_work)
        return Peek(next_due=row[0], ready=ready)

    def stage_due(self, now: datetime, *, limit: int = 1000) -> frozenset[str]:
        """Queue the jobs whose time has come; return the queues that got some."""
        with self.single() as connection:
            rows = connection.execute(_STAGE, {"now": now, "limit": limit}).all()
        return frozenset(row.queue for row in rows)

    def lock_queued(
        self, connection: Connection, queue: str, keys: Sequence[str], *, limit: int,
        with_suspects: bool = True,
    ) -> list[Job]:  # fmt: skip
        """Lock up to *limit* queued jobs of *queue*, best first, waiting for nobody."""
        statement = _LOCK if with_suspects else _LOCK_TRUSTED
        rows = connection.execute(statement, {"queue": queue, "keys": list(keys), "limit": limit})
        return [job_of(row) for row in rows]

    def mark_processing(
        self, connection: Connection, ids: Sequence[int], *, source: str | None, by: str,
        token: str, now: datetime, until: datetime,
    ) -> None:  # fmt: skip
        """Claim locked jobs whose records were in *source*."""
        if not ids:
            return
        claimed = {"source": source, "by": by, "new_token": token, "now": now, "until": until}
        if self.dialect == "postgresql":
            self._mark.execute(connection, {"ids": list(ids), **claimed})
        else:
            self._mark.execute(connection, [{"job_id": id_, **claimed} for id_ in ids])

    def postpone(self, connection: Connection, ids: Sequence[int], until: datetime) -> None:
        """Put locked jobs back until *until*."""
        connection.execute(self._postpone, {"ids": list(ids), "until": until})

    def cancel_stale(
        self, connection: Connection, reasons: Mapping[int, str], now: datetime
    ) -> None:
        """Cancel locked, queued jobs, each for its reason."""
        rows = [{"job_id": id_, "why": why, "now": now} for id_, why in reasons.items()]
        connection.execute(_STALE, rows)

    # Hold

    def renew(self, ids: Sequence[int], *, by: str, until: datetime) -> list[Held]:
        """Extend leases; return those that are still held."""
        with self.single() as connection:
            rows = connection.execute(
                self._renew, {"ids": list(ids), "by": by, "until": until}
            ).all()
        return [Held(job_id=r[0], token=r[1], cancel_requested=r[2], reason=r[3]) for r in rows]

    def lock_jobs(self, connection: Connection, ids: Sequence[int]) -> None:
        """Lock jobs, waiting for others; in the order of their ids, so that none waits for us."""
        connection.execute(self._lock_jobs, {"ids": list(ids)})

    def find_expired(self, keys: Sequence[str], now: datetime, *, limit: int = 100) -> list[int]:
        """Return the ids of processing jobs of *keys* whose lease ended before *now*."""
        with self.single() as connection:
            found = connection.execute(
                _FIND_EXPIRED, {"keys": list(keys), "now": now, "limit": limit}
            )
            return [row.id for row in found]

    def lock_expired(self, connection: Connection, job_id: int, now: datetime) -> Job | None:
        """Lock a job whose lease is still over; None when it is not, or someone holds it."""
        row = connection.execute(_LOCK_EXPIRED, {"job_id": job_id, "now": now}).first()
        return None if row is None else job_of(row)

    def note(self, connection: Connection, job: Job, column: str, text: str | None) -> bool:
        """Write *column* (progress or checkpoint) of a job we hold; False when we do not."""
        found = connection.execute(
            statements.note_on_job(column), {"job_id": job.id, "held": job.token, "note": text}
        )
        return found.rowcount == 1

    # Finish

    def finish(
        self, connection: Connection, job: Job, settlement: Settlement, *, now: datetime,
        rests_in_source: bool, allowance: int,
    ) -> JobState | None:  # fmt: skip
        """Settle a processing job; return its new state, or None when it is no longer ours."""
        parameters = finish_parameters(
            job, settlement, now=now, rests_in_source=rests_in_source, allowance=allowance
        )
        row = connection.execute(_FINISH, parameters).first()
        return None if row is None else JobState(row[0])

    def find_cancel_request(self, connection: Connection, job: Job) -> str | None:
        """Lock a job that we hold; return the reason for which someone wants it to stop."""
        row = connection.execute(_HELD, {"job_id": job.id, "held": job.token}).first()
        return (row.reason or "cancelled") if row is not None and row.cancel_requested else None

    def record_attempt(
        self, connection: Connection, job: Job, outcome: str, *, now: datetime,
        failure: Failure | None = None, message: str | None = None,
    ) -> None:  # fmt: skip
        """Write how an attempt ended that did not complete."""
        connection.execute(
            _ATTEMPT,
            {
                "job_id": job.id,
                "attempt": job.attempt,
                "outcome": outcome,
                "error_type": failure.error_type if failure else None,
                "message": failure.message if failure else message,
                "traceback": failure.traceback if failure else None,
                "node": job.owner,
                "started_at": job.started_at,
                "finished_at": now,
            },
        )

    # People

    def cancel_waiting(self, connection: Connection, job_id: int, why: str, now: datetime) -> bool:
        """Cancel a waiting job; False when it does not wait."""
        params = {"job_id": job_id, "why": why, "now": now}
        return connection.execute(_CANCEL, params).rowcount == 1

    def request_cancel(self, connection: Connection, job_id: int, why: str) -> bool:
        """Ask a running job to stop; False when it does not run."""
        return connection.execute(_REQUEST, {"job_id": job_id, "why": why}).rowcount == 1

    def requeue(self, connection: Connection, job_id: int, allowance: int, now: datetime) -> bool:
        """Queue a waiting or ended job at once; False when it is processing or gone."""
        params = {"job_id": job_id, "allowance": allowance, "now": now}
        return connection.execute(_REQUEUE, params).rowcount == 1

    # Nodes

    def register_node(self, row: Mapping[str, object]) -> None:
        """Write the row of a worker process."""
        with self.single() as connection:
            connection.execute(_NODE, dict(row))

    def beat(self, node_id: str, now: datetime) -> bool:
        """Renew the row of a worker process; False when it is gone."""
        with self.single() as connection:
            return connection.execute(_BEAT, {"node_id": node_id, "now": now}).rowcount == 1

    def remove_node(self, node_id: str) -> None:
        """Delete the row of a worker process."""
        with self.single() as connection:
            connection.execute(_UNNODE, {"node_id": node_id})

    def forget_silent_nodes(self, before: datetime) -> None:
        """Delete the rows of worker processes silent since *before*."""
        with self.single() as connection:
            connection.execute(_SILENT, {"before": before})


class JobQueries:
    """Answers for people: the command line, the demo, tests."""

    def __init__(
        self, engine: Engine, keys_of: Callable[[str], Sequence[str] | None] = lambda _name: None
    ) -> None:
        """Make one.

        Args:
            engine: The database.
            keys_of: Returns the keys of the triggers of a resource whose history names every
                completed job; None where jobs must be looked for one by one.
        """
        self._engine, self._keys_of = engine, keys_of

    def jobs(
        self, *, states: Sequence[JobState] = (), queue: str | None = None, key: str | None = None,
        resource: str | None = None, record_id: str | None = None, limit: int = 100,
    ) -> list[Job]:  # fmt: skip
        """Return the newest jobs that match."""
        query = select(jobs).order_by(jobs.c.id.desc()).limit(limit)
        if states:
            query = query.where(jobs.c.state.in_([state.value for state in states]))
        for column, wanted in (
            (jobs.c.queue, queue),
            (jobs.c.key, key),
            (jobs.c.resource, resource),
            (jobs.c.record_id, record_id),
        ):
            if wanted is not None:
                query = query.where(column == wanted)
        with self._engine.connect() as connection:
            if resource is not None and record_id is not None:
                keys = self._keys_of(resource)
                if keys is not None:
                    # An index on the record would cost every update of a job: none could be HOT.
                    ids = connection.scalars(
                        statements.find_jobs_of_record(resource, record_id, keys)
                    )
                    query = query.where(jobs.c.id.in_(list(ids)))
            return [job_of(row) for row in connection.execute(query)]

    def job(self, job_id: int) -> Job | None:
        """Return one job."""
        with self._engine.connect() as connection:
            row = connection.execute(select(jobs).where(jobs.c.id == job_id)).first()
        return None if row is None else job_of(row)

    def attempts(self, job_id: int) -> list[dict[str, Any]]:
        """Return the attempts of a job that did not complete, oldest first."""
        query = select(attempts).where(attempts.c.job_id == job_id).order_by(attempts.c.id)
        return self._rows(query)

    def transitions(self, resource: str, record_id: str) -> list[dict[str, Any]]:
        """Return the history of a record, oldest first."""
        query = (
            select(transitions)
            .where(transitions.c.resource == resource, transitions.c.record_id == record_id)
            .order_by(transitions.c.id)
        )
        return self._rows(query)

    def nodes(self) -> list[dict[str, Any]]:
        """Return the worker processes that are registered."""
        return self._rows(select(nodes).order_by(nodes.c.started_at))

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many jobs each queue has in each state."""
        found: dict[str, dict[str, int]] = {}
        with self._engine.connect() as connection:
            for queue, state, count in connection.execute(statements.count_jobs()):
                found.setdefault(queue, {})[state] = count
        return found

    def oldest_queued(self) -> dict[str, datetime]:
        """Return since when the oldest queued job of each queue waits."""
        with self._engine.connect() as connection:
            rows = connection.execute(statements.oldest_queued())
            return {row[0]: row[1] for row in rows}

    def _rows(self, query: Any) -> list[dict[str, Any]]:
        with self._engine.connect() as connection:
            return [dict(row._mapping) for row in connection.execute(query)]  # noqa: SLF001 - its public name


def working_engine(engine: Engine) -> Engine:
    """Return *engine* as workers use it: reading in autocommit, beginning at the first write."""
    if engine.dialect.name == "sqlite":
        return engine  # configure_sqlite made it so
    working = engine.execution_options(isolation_level="AUTOCOMMIT")
    begin_lazily(working, "BEGIN")
    return working


def finish_parameters(
    job: Job, settlement: Settlement, *, now: datetime, rests_in_source: bool, allowance: int
) -> dict[str, Any]:
    """Return the parameters of `statements.finish_job`."""
    return {
        "job_id": job.id,
        "held_attempt": job.attempt,
        "held": job.token,
        "new_state": settlement.state.value,
        "new_attempt": settlement.attempt,
        "new_crashes": settlement.crashes,
        "next_run_at": settlement.run_at,
        "ended_at": now if settlement.is_ended else None,
        "finished_now": now,
        "is_ended": settlement.is_ended,
        "why": settlement.reason,
        "rests_in_source": rests_in_source,
        "allowance": allowance,
    }


def enqueue(connection: Connection, new: Sequence[NewJob]) -> list[EnqueueResult]:
    """Insert *new* jobs on *connection* in one statement; results in the order given.

    No two may have the same `dedupe_key`. Those of one trigger get their ids, and so run, in the
    order of their records' numbers.
    """
    ordered = sorted(new, key=lambda job: lock_order(job.dedupe_key or ""))
    most = _MOST_ROWS if connection.dialect.name == "sqlite" else max(len(new), 1)
    found = [
        row
        for first in range(0, len(new), most)
        for row in _upsert(connection, [_row_of(job) for job in ordered[first : first + most]])
    ]
    by_key = {row.dedupe_key: row for row in found}
    if len(by_key) != len(found):
        return _enqueue_one_by_one(new, found)
    return [_result(by_key[job.dedupe_key]) for job in new]


def lock_order(dedupe_key: str) -> tuple[int, str]:
    """Return what jobs are sorted by before they are locked: the same everywhere, or they deadlock.

    By length first, so that record 2 comes before record 10.
    """
    return len(dedupe_key), dedupe_key


def cancel_left(
    connection: Connection, left: Mapping[str, str], *, running: bool, now: datetime
) -> None:
    """End the jobs (dedupe key → reason) whose records left the state that promised them.

    Args:
        connection: The caller's.
        left: Dedupe keys with the reason.
        running: The records left the state in which their job runs: ask it to stop.
        now: When.
    """
    rows = [
        {"left_key": key, "left_reason": left[key], "left_at": now}
        for key in sorted(left, key=lock_order)
    ]
    connection.execute(_ASK if running else _LEAVE, rows)


def write_history(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows of history with one statement; as arrays where the database has them."""
    if len(rows) > 1 and connection.dialect.name == "postgresql":
        constant, given = _as_arrays(rows)
        _history(connection.dialect, arrays=True, constant=constant).execute(connection, given)
    else:
        _history(connection.dialect).execute(connection, rows if len(rows) > 1 else rows[0])


def job_of(row: Row[Any]) -> Job:
    """Return the job that a row of the jobs table holds."""
    values = dict(row._mapping)  # noqa: SLF001 - its public name
    values["state"] = JobState(values["state"])
    return Job(**values)


def _upsert(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> CursorResult[Any]:
    dialect = connection.dialect.name
    if len(rows) == 1:
        return connection.execute(_enqueue(dialect), dict(rows[0]))
    if dialect == "postgresql":
        constant, given = _as_arrays(rows)
        return connection.execute(_enqueue(dialect, arrays=True, constant=constant), given)
    # an executemany would return row by row
    return connection.execute(_enqueue(dialect).values([dict(row) for row in rows]))


def _as_arrays(rows: Sequence[Mapping[str, Any]]) -> tuple[frozenset[str], dict[str, Any]]:
    """Return an array for each column, but one value where it is constant; and those columns."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    constant = frozenset(name for name, values in columns.items() if _is_constant(values))
    constant -= {_NEVER_CONSTANT}
    return constant, {n: v[0] if n in constant else v for n, v in columns.items()}


def _is_constant(values: Sequence[Any]) -> bool:
    first = values[0]
    return all(value is first or value == first for value in values)


@lru_cache(maxsize=256)
def _enqueue(dialect: str, *, arrays: bool = False, constant: frozenset[str] = frozenset()) -> Any:
    return statements.enqueue_jobs(dialect, arrays=arrays, constant=constant)


@lru_cache(maxsize=256)
def _history(
    dialect: Dialect, *, arrays: bool = False, constant: frozenset[str] = frozenset()
) -> Prepared:
    return Prepared(statements.insert_transitions(arrays=arrays, constant=constant), dialect)


def _row_of(job: NewJob) -> dict[str, Any]:
    row = {name: getattr(job, name) for name in statements.NEW_JOB_COLUMNS}
    row["state"] = job.state.value
    return row


def _enqueue_one_by_one(new: Sequence[NewJob], found: Sequence[Any]) -> list[EnqueueResult]:
    """Match rows without a dedupe key: each was inserted, in any order."""
    keyed = {row.dedupe_key: row for row in found if row.dedupe_key is not None}
    plain = iter(sorted((r for r in found if r.dedupe_key is None), key=lambda r: r.id))
    return [_result(keyed[j.dedupe_key] if j.dedupe_key is not None else next(plain)) for j in new]


def _result(row: Any) -> EnqueueResult:
    if row.coalesced == 0:
        outcome = Enqueued.INSERTED
    elif row.state == JobState.PROCESSING:
        outcome = Enqueued.RUN_AGAIN
    elif row.attempt > 0:
        outcome = Enqueued.RETRIED
    else:
        outcome = Enqueued.COALESCED
    return EnqueueResult(job_id=row.id, outcome=outcome)


_MOST_ROWS = 1000  # SQLite takes 32,766 parameters in a statement
_DO_NOT_FLUSH = "SET LOCAL synchronous_commit TO off"
_NEVER_CONSTANT = "record_id"  # one array says how many rows there are
_LEAVE = statements.cancel_left_jobs()
_ASK = statements.ask_to_cancel()
_STAGE = statements.stage_due_jobs()
_LOCK = statements.lock_queued_jobs()
_LOCK_TRUSTED = _LOCK.where(jobs.c.crashes == 0)
_STALE = statements.cancel_stale_job()
_FIND_EXPIRED = statements.find_expired_jobs()
_LOCK_EXPIRED = statements.lock_expired_job()
_HELD = statements.lock_held_job()
_FINISH = statements.finish_job()
_ATTEMPT = statements.insert_attempts()
_CANCEL = statements.cancel_waiting_job()
_REQUEST = statements.request_cancel()
_REQUEUE = statements.requeue_job()
_NODE = statements.insert_node()
_BEAT = statements.beat_node()
_UNNODE = statements.delete_node()
_SILENT = statements.delete_silent_nodes()
