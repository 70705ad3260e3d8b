"""The jobs that filters mean: the newest of them, how many they are, and the ids of all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import ColumnElement, Connection, func, select

from statejobs.store import look as look_sql
from statejobs.store.faults import Fault, fault_of
from statejobs.store.filters import Filters, KnownNames
from statejobs.store.readable import read_jobs
from statejobs.store.rows import job_of
from statejobs.store.tables import jobs
from statejobs.values.job import Job

_LARGEST = 2**63 - 1
"""Largest number that a database takes."""


class Matching:
    """The jobs that filters mean."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        names: KnownNames,
        keys_of: Callable[[str], Sequence[str] | None],
        *,
        holding: Callable[[], Iterable[str]],
    ) -> None:
        """Make it.

        Args:
            connect: Opens a connection.
            names: What people may say, and what is stored for it.
            keys_of: As for `JobQueries`.
            holding: Returns the queues that hold jobs.
        """
        self.names = names
        self._connect = connect
        self._keys_of = keys_of
        self._holding = holding

    def newest(self, filters: Filters, *, limit: int) -> list[Job]:
        """Return the newest jobs that *filters* mean.

        Raises:
            NotFoundError: There are none, and a queue, key or resource that nobody knows is named.
        """
        query = select(jobs).order_by(jobs.c.id.desc()).limit(min(limit, _LARGEST))
        with self._connect() as connection:
            conditions = self._conditions(connection, filters)
            found = read_jobs(connection, query.where(*conditions))
        if not found:
            self.refuse_unknown(filters)
        return found

    def oldest_first(self, filters: Filters) -> list[Job]:
        """Return all jobs that *filters* mean, the oldest first."""
        with self._connect() as connection:
            conditions = self._conditions(connection, filters)
            query = select(jobs).where(*conditions).order_by(jobs.c.id)
            try:
                return [job_of(row) for row in connection.execute(query)]
            except Exception as error:
                # a row is broken: each is read by itself then, which takes its time
                if fault_of(error) not in {None, Fault.ROW}:
                    raise
                connection.rollback()
                return read_jobs(connection, query)

    def count(self, filters: Filters) -> int:
        """Return how many jobs *filters* mean.

        Raises:
            NotFoundError: As `newest`.
        """
        query = select(func.count()).select_from(jobs)
        with self._connect() as connection:
            conditions = self._conditions(connection, filters)
            found = connection.scalar(query.where(*conditions)) or 0
        if not found:
            self.refuse_unknown(filters)
        return found

    def ids(self, filters: Filters, *, after: int, until: int, limit: int) -> list[int]:
        """Return the smallest ids above *after*, and up to *until*, that *filters* mean."""
        query = look_sql.find_ids(after=after, until=until, limit=limit)
        with self._connect() as connection:
            conditions = self._conditions(connection, filters)
            return list(connection.scalars(query.where(*conditions)))

    def newest_id(self) -> int:
        """Return the largest id that a job has; 0 when there is none."""
        with self._connect() as connection:
            return connection.scalar(select(func.max(jobs.c.id))) or 0

    def refuse_unknown(self, filters: Filters) -> None:
        """Raise `NotFoundError` for a queue, key or resource that nobody knows."""
        self.names.refuse_unknown(
            queue=filters.queue,
            key=filters.key,
            resource=filters.resource,
            holding=self._holding,
        )

    def _conditions(
        self, connection: Connection, filters: Filters
    ) -> list[ColumnElement[bool]]:
        """Return what a job has to meet; those of a record are found by indexes, where some do.

        One on the record itself would cost every update of a job: none could be HOT.
        """
        conditions = [*filters.conditions()]
        if filters.resource is None or not filters.record_ids:
            return conditions
        keys = self._keys_of(filters.resource)
        if keys is not None:
            query = look_sql.find_jobs_of_record(
                filters.resource, filters.record_ids[0], keys
            )
            conditions.append(jobs.c.id.in_(list(connection.scalars(query))))
        return conditions
