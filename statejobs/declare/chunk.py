"""What an action sees that takes many records in one call."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from reprlib import repr as short
from typing import TypeVar

from sqlalchemy.orm import Session

from statejobs.errors import RecordFailedError, StateJobsError
from statejobs.values.failure import describe_failure
from statejobs.values.job import Job
from statejobs.values.opened import NOTHING, opened_as
from statejobs.values.outcome import (
    Cancel,
    CancelSignal,
    Complete,
    Fail,
    Outcome,
    Snooze,
    Stale,
)

T = TypeVar("T")


class ChunkContext:
    """What the action of a trigger with `chunk=` sees.

    Every record completes when the action returns, but for those that `fail`, `snooze`, `cancel`
    and `stale` name: of these, changes that no flush has written are dropped. When the action
    raises, nothing of the call is kept, and each job is run by itself.
    """

    def __init__(
        self,
        *,
        session: Session,
        records: Sequence[object],
        jobs: Sequence[Job],
        now: datetime,
        cancels: Sequence[CancelSignal] = (),
        lifespan: object = NOTHING,
    ) -> None:
        self.session = session
        """One for the call: what is written here commits with all outcomes, or not at all.

        Autoflush is off. Reads run in autocommit until the first write, flush or locking read.
        """
        self.jobs = tuple(jobs)
        """The job of each record, in the order of the records."""
        self.now = now
        """When the call began, in UTC."""
        self._cancels = tuple(cancels)
        self._lifespan = lifespan
        self._places = {id(record): place for place, record in enumerate(records)}
        self._others: dict[int, Outcome] = {}

    @property
    def cancel_requested(self) -> bool:
        """Whether the action should stop: the result of no record will be kept."""
        return bool(self._cancels) and all(self._cancels)

    def idempotency_key(self, record: object) -> str:
        """Return the key of one record: the same for every attempt, until the trigger completed.

        Give it to whatever you call that must not happen twice.
        """
        return self.jobs[self._place(record)].idempotency_key

    def from_lifespan(self, kind: type[T]) -> T:
        """Return what the app's `worker_lifespan` yielded, as `JobContext.from_lifespan` does."""
        return opened_as(self._lifespan, kind)

    def fail(self, record: object, error: BaseException | str) -> None:
        """Let the attempt of one record fail, as if its action had raised *error*.

        A text is kept as it is, with no class of an error before it.
        """
        raised = RecordFailedError(error) if isinstance(error, str) else error
        self._others[self._place(record)] = Fail(
            failure=describe_failure(raised), error=raised
        )

    def snooze(
        self, record: object, delay: timedelta, *, reason: str | None = None
    ) -> None:
        """Let one record run again after *delay*; its attempt does not count.

        Raises:
            ValueError: The delay is not positive.
        """
        self._others[self._place(record)] = Snooze(delay, reason=reason)

    def cancel(self, record: object, reason: str) -> None:
        """Stop the job of one record for good; the record moves to `failed`."""
        self._others[self._place(record)] = Cancel(reason)

    def stale(self, record: object, reason: str) -> None:
        """End the job of one record whose work is no longer wanted; it goes back to its source."""
        self._others[self._place(record)] = Stale(reason)

    def outcome_of(self, record: object) -> Outcome:
        """Return how the attempt of one record ends, if the action returns."""
        return self._others.get(self._place(record), Complete())

    def _place(self, record: object) -> int:
        place = self._places.get(id(record))
        if place is None:
            raise StateJobsError(
                f"{short(record)} is not one of the {len(self._places)} records of this call",
                fix="Give one of the objects that the action was called with",
            )
        return place
