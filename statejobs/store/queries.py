"""Answers for people: the command line, the demo, tests."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Select, Table, select

from statejobs.awaited import Awaited
from statejobs.store import look as look_sql
from statejobs.store.conditions import as_bytes
from statejobs.store.filters import KnownNames, filters_of
from statejobs.store.matching import Matching
from statejobs.store.readable import read_jobs, read_rows
from statejobs.store.rows import text_of
from statejobs.store.tables import attempts, jobs, nodes, transitions
from statejobs.values.job import ENDED, Job, JobOutcome, JobState, OutcomeName
from statejobs.values.kinds import (
    check_job_id,
    check_kind,
    check_whole,
    members_of,
)
from statejobs.values.waiting import MOST

MOST_COUNTED = 10_000
"""Ended jobs of a state that `counts` reads."""
_AT_ONCE = 500  # ids in one statement
_LARGEST = 2**63 - 1
"""Largest number that a database takes."""


class AtLeast(int):
    """A number that is known to be reached, and may be exceeded; it prints as `10000+`."""

    def __str__(self) -> str:
        """Return it with a sign that says so."""
        return f"{int(self)}+"


class JobQueries:
    """Answers for people: the command line, the demo, tests.

    Each has a form for asyncio, `jobs_async` of `jobs`.
    """

    def __init__(
        self,
        engine: Engine,
        names: KnownNames,
        keys_of: Callable[[str], Sequence[str] | None] = lambda _name: None,
        *,
        refuse_closed: Callable[[], None] = lambda: None,
    ) -> None:
        """Make one.

        Args:
            engine: The database.
            names: What people may say, and what is stored for it.
            keys_of: Returns the keys of the triggers of a resource whose history names every
                completed job; None where jobs must be looked for one by one.
            refuse_closed: Raises when nothing may be asked any more.
        """
        self._engine = engine
        self._names = names
        self._refuse_closed = refuse_closed
        self.matching = Matching(self._connect, names, keys_of, holding=self.counts)
        """Those that filters mean, for whoever acts on them."""

    def jobs(
        self,
        *,
        states: Sequence[JobState | str] = (),
        outcomes: Sequence[JobOutcome | OutcomeName] = (),
        queue: str | None = None,
        key: str | None = None,
        resource: str | type | None = None,
        record_id: object = None,
        tag: str | None = None,
        error: str | None = None,
        before: datetime | None = None,
        limit: int = 100,
    ) -> list[Job]:
        """Return the newest jobs that match.

        Args:
            states: Only jobs in one of them.
            outcomes: Only jobs that ended in one of these ways.
            queue: Only jobs of this queue.
            key: Only jobs of this trigger or task.
            resource: Only jobs of records of this resource: its name or its class.
            record_id: Only jobs of this record: itself, its key (a tuple when it has several
                columns), or text: JSON, or the key as it is.
            tag: Only jobs with this tag.
            error: Only jobs whose last error was of this type, such as "TimeoutError".
            before: Only jobs that ended before then; while they live, that were enqueued before.
            limit: How many at most.

        Raises:
            NotFoundError: There is no such state, outcome, queue, key or resource, or no such key
                of a record.
        """
        check_whole("jobs(limit=…)", limit)
        filters = filters_of(
            self.matching.names,
            where="jobs",
            states=members_of("jobs(states=…)", states, example='states=["queued"]'),
            outcomes=members_of(
                "jobs(outcomes=…)", outcomes, example='outcomes=["stale"]'
            ),
            queue=queue,
            key=key,
            resource=resource,
            record=record_id,
            tag=tag,
            error=error,
            before=before,
        )
        return self.matching.newest(filters, limit=limit)

    def job(self, job_id: int) -> Job | None:
        """Return one job; None when there is no such."""
        check_job_id("queries.job()", job_id)
        if not 0 < job_id <= _LARGEST:
            return None
        with self._connect() as connection:
            found = read_jobs(connection, select(jobs).where(jobs.c.id == job_id))
        return found[0] if found else None

    def stuck(self, *, limit: int = 100) -> list[Job]:
        """Return the jobs that were given up last because their record could not be moved."""
        check_whole("stuck(limit=…)", limit)
        query = look_sql.find_stuck_jobs().limit(min(limit, _LARGEST))
        with self._connect() as connection:
            return read_jobs(connection, query)

    def put_aside(self, *, limit: int = 100) -> list[Job]:
        """Return the processing jobs whose record cannot be moved yet, the next first."""
        check_whole("put_aside(limit=…)", limit)
        query = look_sql.find_put_aside_jobs().limit(min(limit, _LARGEST))
        with self._connect() as connection:
            return read_jobs(connection, query)

    def waiting_for_other_code(self, now: datetime) -> list[dict[str, Any]]:
        """Return what does not fit the code of the workers that met it: key, reason and count."""
        check_kind(
            "waiting_for_other_code()", now, datetime, example="datetime.now(UTC)"
        )
        before = now + 2 * MOST  # none is put back for longer
        with self._connect() as connection:
            rows = connection.execute(
                look_sql.count_jobs_for_other_code(), {"before": before}
            )
            return [dict(row._mapping) for row in rows]  # noqa: SLF001 - its public name

    def waiting_of(self, keys: Sequence[str]) -> dict[str, int]:
        """Return how many jobs of each of *keys* wait."""
        keys = members_of("waiting_of()", keys, example='["order.charge"]')
        found = dict.fromkeys(keys, 0)
        if not found:
            return found
        with self._connect() as connection:
            for key, count in connection.execute(look_sql.count_waiting([*found])):
                found[key] += count
        return found

    def attempts(self, job_id: int) -> list[dict[str, Any]]:
        """Return the attempts of a job that did not complete, oldest first."""
        check_job_id("queries.attempts()", job_id)
        if not 0 < job_id <= _LARGEST:
            return []
        query = (
            select(attempts).where(attempts.c.job_id == job_id).order_by(attempts.c.id)
        )
        return self._rows(query, attempts)

    def last_errors(self, job_ids: Sequence[int]) -> dict[int, tuple[str, str]]:
        """Return kind and message of the last error of those jobs that had one."""
        errors: dict[int, tuple[str, str]] = {}
        job_ids = members_of("last_errors()", job_ids, example="[1]")
        for job_id in job_ids:
            check_job_id("queries.last_errors()", job_id)
        for start in range(0, len(job_ids), _AT_ONCE):
            query = (
                select(
                    attempts.c.id,
                    attempts.c.job_id,
                    attempts.c.error_type,
                    attempts.c.message,
                )
                .where(attempts.c.job_id.in_(job_ids[start : start + _AT_ONCE]))
                .where(attempts.c.error_type.is_not(None))
                .order_by(attempts.c.id)
            )
            for row in self._rows(query, attempts):
                errors[row["job_id"]] = (row["error_type"], row["message"] or "")
        return errors

    def transitions(
        self, resource: str | type, record_id: object
    ) -> list[dict[str, Any]]:
        """Return the history of a record, oldest first.

        Args:
            resource: Name or class of its resource.
            record_id: The record itself, its key (a tuple when it has several columns), or text:
                JSON, or the key as it is.

        Raises:
            NotFoundError: There is no such resource, or it has no such keys.
        """
        stored, forms = self._names.records(self._names.resource(resource), record_id)
        found = self._steps(stored, forms)
        if not found:
            self._names.refuse_unknown(resource=stored)
        return found

    def steps(self, job: Job) -> list[dict[str, Any]]:
        """Return the history of the record of *job*, oldest first; the app may know neither."""
        return (
            [] if job.record_id is None else self._steps(job.resource, [job.record_id])
        )

    def nodes(self) -> list[dict[str, Any]]:
        """Return the worker processes that are registered."""
        return self._rows(select(nodes).order_by(nodes.c.started_at), nodes)

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many jobs each queue has in each state.

        Those that ended are counted up to `MOST_COUNTED` in a state, the newest first; where there
        are more, the numbers of that state are `AtLeast`.
        """
        found: dict[str, dict[str, int]] = {}
        with self._connect() as connection:
            query = _undecoded(
                look_sql.count_jobs(MOST_COUNTED), connection.dialect.name
            )
            for queue, state, count in connection.execute(query):
                found.setdefault(text_of(queue) or "", {})[state] = count
        for state in ENDED:
            if sum(counts.get(state, 0) for counts in found.values()) >= MOST_COUNTED:
                for counts in found.values():
                    counts[state] = AtLeast(counts.get(state, 0))
        return found

    def queued_beside(self, queues: Collection[str]) -> dict[str, int]:
        """Return how many jobs are queued in each queue that is none of *queues*."""
        queues = members_of("queued_beside()", queues, example='["default"]')
        with self._connect() as connection:
            query = _undecoded(
                look_sql.count_queued_beside(queues), connection.dialect.name
            )
            rows = connection.execute(query)
            return {text_of(queue) or "": count for queue, count in rows}

    def oldest_queued(self) -> dict[str, datetime]:
        """Return since when the oldest queued job of each queue waits."""
        with self._connect() as connection:
            query = _undecoded(look_sql.oldest_queued(), connection.dialect.name)
            rows = [
                (text_of(queue) or "", at) for queue, at in connection.execute(query)
            ]
        return {
            queue: min(at for name, at in rows if name == queue) for queue, _ in rows
        }

    # The same for asyncio

    jobs_async = Awaited(jobs)
    job_async = Awaited(job)
    stuck_async = Awaited(stuck)
    put_aside_async = Awaited(put_aside)
    waiting_for_other_code_async = Awaited(waiting_for_other_code)
    waiting_of_async = Awaited(waiting_of)
    attempts_async = Awaited(attempts)
    last_errors_async = Awaited(last_errors)
    transitions_async = Awaited(transitions)
    steps_async = Awaited(steps)
    nodes_async = Awaited(nodes)
    counts_async = Awaited(counts)
    queued_beside_async = Awaited(queued_beside)
    oldest_queued_async = Awaited(oldest_queued)

    def _connect(self) -> Connection:
        self._refuse_closed()
        return self._engine.connect()

    def _steps(
        self, resource: str | None, forms: Sequence[str]
    ) -> list[dict[str, Any]]:
        query = (
            select(transitions)
            .where(
                transitions.c.resource == resource, transitions.c.record_id.in_(forms)
            )
            .order_by(transitions.c.id)
        )
        return self._rows(query, transitions)

    def _rows(self, query: Select[Any], table: Table) -> list[dict[str, Any]]:
        with self._connect() as connection:
            return read_rows(connection, table, query)


def _undecoded(query: Any, dialect: str) -> Select[Any]:
    """Return *query* with its first column, the queue, as SQLite holds it: one may be no text."""
    rows = query.subquery()
    queue, *others = rows.c
    return select(as_bytes(queue, dialect), *others)
