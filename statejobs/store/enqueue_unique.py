"""Puts jobs into the queue of which there may be one for each key, also when it has completed.

Look who has the keys, then insert what is no duplicate. That INSERT takes the locks of all its
keys, in their order, so nobody waits in a circle; what it could not insert is a duplicate by now,
or what had the key has lost it, and it is inserted by the same statement once more. Who only looked
after an INSERT that does nothing could find that the job has completed meanwhile, and would insert
an early key while it holds late ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Row, Select, Update, select, update

from statejobs.errors import DuplicateJobError, StateJobsError
from statejobs.store.conditions import has_dedupe_key, is_listed, listed_keys
from statejobs.store.enqueue import (
    MOST_ROWS,
    Records,
    adopt,
    in_order,
    result_of,
    row_of,
    upsert,
)
from statejobs.store.prune import delete_jobs
from statejobs.store.tables import HOLDS_KEY, jobs
from statejobs.store.upsert_unique import meet_unique
from statejobs.values.job import (
    GAVE_UP,
    WAITING,
    Enqueued,
    EnqueueResult,
    JobState,
    NewJob,
)
from statejobs.values.unique import Unique, is_duplicate

_MOST_ROUNDS = 3
"""The second is for keys that were held by what had ended, or got a job since the first look."""


def enqueue_unique(
    connection: Connection,
    new: Sequence[NewJob],
    unique: Unique,
    *,
    former: Mapping[str, str] | None = None,
    records: Records | None = None,
) -> list[EnqueueResult]:
    """Insert those of *new* whose key nobody holds; results in the order given.

    No two may have the same `dedupe_key`. What gave up holds no key: that of a task loses its key,
    that of a record goes on, as it does without `Unique`.

    Args:
        connection: The caller's.
        new: Jobs of tasks, or of records, with the same *unique*.
        unique: What becomes of a request whose key is held.
        former: Former dedupe keys, and those of today.
        records: To be locked before their jobs are.

    Raises:
        DuplicateJobError: A key is held, and *unique* raises; none of *new* was enqueued.
    """
    if former:
        adopt(connection, former, records)
    request = _Request(connection, unique, new)
    left = sorted(new, key=in_order)
    for _ in range(_MOST_ROUNDS):
        left = request.look(left)
        if left:
            left = request.insert(left, records)
        if not left:
            request.take_from_ticks()
            return [request.results[job.dedupe_key] for job in new]
        records = None  # they are locked
    raise StateJobsError(
        f"{left[0].dedupe_key!r} is held by what nobody can see",
        where=left[0].key,
        fix="Enqueue it again, with a transaction of its own",
    )


class _Request:
    """What has become of new jobs so far."""

    def __init__(
        self,
        connection: Connection,
        unique: Unique,
        new: Sequence[NewJob],
    ) -> None:
        self.results: dict[str | None, EnqueueResult] = {}
        self._connection = connection
        self._unique = unique
        self._new = {job.dedupe_key: job for job in new}
        self._gave_up: set[str | None] = set()
        self._of_ticks: list[int] = []
        """Jobs that ticks made, and that serve what somebody asks for now."""

    def look(self, left: Sequence[NewJob]) -> list[NewJob]:
        """Tell duplicates; return the others.

        Raises:
            DuplicateJobError: One is a duplicate, and these raise.
        """
        dialect = self._connection.dialect.name
        keys = listed_keys([job.dedupe_key or "" for job in left], dialect)
        for row in self._connection.execute(find_holders(dialect), keys).all():
            if self._is_duplicate(row):
                self._tell_duplicate(row)
            elif row.state in GAVE_UP:
                self._gave_up.add(row.dedupe_key)
        return self._left_of(left)

    def insert(
        self, left: Sequence[NewJob], records: Records | None = None
    ) -> list[NewJob]:
        """Insert *left*; return those whose key was held, or is held by one that stays as it is."""
        freed = self._insert_once(left, records)
        rest = self._left_of(left)
        # whose keys were lost to us nobody else can have taken
        if freed and freed == len(rest):
            self._insert_once(rest, None)
            return self._left_of(rest)
        return rest

    def _insert_once(self, left: Sequence[NewJob], records: Records | None) -> int:
        """Return how many jobs lost their key."""
        of_records = left[0].record_id is not None
        meet = meet_unique(self._unique, of_records=of_records)
        is_sqlite = self._connection.dialect.name == "sqlite"
        most = MOST_ROWS if is_sqlite else len(left)
        freed = 0
        for first in range(0, len(left), most):
            rows = [row_of(job) for job in left[first : first + most]]
            for row in upsert(self._connection, rows, records, meet):
                if self._lost_key(row):
                    freed += 1
                else:
                    self.results[row.dedupe_key] = self._result(row)
        return freed

    def _lost_key(self, row: Row[Any]) -> bool:
        if row.state == JobState.PROCESSING:
            return self._unique.while_ == "waiting"
        return row.state not in WAITING

    def _result(self, row: Row[Any]) -> EnqueueResult:
        if row.coalesced == 0 or self._unique.on_conflict == "run_again":
            return result_of(row)
        is_replaced = (
            self._unique.on_conflict == "replace"
            and row.dedupe_key not in self._gave_up
        )
        outcome = Enqueued.REPLACED if is_replaced else Enqueued.RETRIED
        return EnqueueResult(job_id=row.id, outcome=outcome)

    def _left_of(self, left: Sequence[NewJob]) -> list[NewJob]:
        return [job for job in left if job.dedupe_key not in self.results]

    def _is_duplicate(self, row: Row[Any]) -> bool:
        state = JobState(row.state)
        return is_duplicate(
            self._unique,
            state,
            until=row.unique_until,
            now=self._new[row.dedupe_key].enqueued_at,
        )

    def _tell_duplicate(self, row: Row[Any]) -> None:
        if self._unique.on_conflict == "raise":
            self._take_back()
            state = JobState(row.state)
            raise DuplicateJobError(row.key, job_id=row.id, state=state)
        new = self._new[row.dedupe_key]
        is_asked_for = new.record_id is not None and new.tick_at is None
        if is_asked_for and row.tick_at is not None:
            self._of_ticks.append(row.id)
        self.results[row.dedupe_key] = EnqueueResult(
            job_id=row.id, outcome=Enqueued.DUPLICATE
        )

    def take_from_ticks(self) -> None:
        """Let the duplicates be jobs that were asked for, whatever ticks would pick.

        Those of a task stay of their tick, whose instant they run for.
        """
        if self._of_ticks:
            take = _take_from_ticks(self._connection.dialect.name)
            self._connection.execute(take, {"ids": self._of_ticks})

    def _take_back(self) -> None:
        made = [
            result.job_id
            for result in self.results.values()
            if result.outcome is Enqueued.INSERTED
        ]
        delete_jobs(self._connection, made)


@lru_cache(maxsize=2)
def find_holders(dialect: str) -> Select[Any]:
    """Find the jobs that have one of `dedupe_keys`."""
    return select(
        jobs.c.id,
        jobs.c.key,
        jobs.c.dedupe_key,
        jobs.c.state,
        jobs.c.unique_until,
        jobs.c.tick_at,
    ).where(has_dedupe_key(dialect), HOLDS_KEY)


@lru_cache(maxsize=2)
def _take_from_ticks(dialect: str) -> Update:
    """Let the jobs of `ids` be none of a tick."""
    return update(jobs).where(is_listed(jobs.c.id, dialect)).values(tick_at=None)
