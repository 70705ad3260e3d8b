"""What an action sees of its run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, MutableMapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sqlalchemy.orm import Session

from statejobs.errors import StateJobsError, WrongValueError
from statejobs.record.actors import Actors
from statejobs.values.job import Job
from statejobs.values.kinds import check_number
from statejobs.values.opened import NOTHING, opened_as
from statejobs.values.outcome import CancelSignal

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

T = TypeVar("T")


_NOT_LOADED = object()


class Notes(Protocol):
    """Where a running job leaves its progress and its checkpoints, and reads what is beside it."""

    def progress(self, done: int, total: int) -> None:
        """Write how far the job is."""
        ...

    def load_checkpoint(self) -> dict[str, Any]:
        """Return what earlier attempts saved."""
        ...

    def save_checkpoint(self, content: dict[str, Any]) -> None:
        """Save what later attempts shall find."""
        ...

    def last_tick(self) -> datetime | None:
        """Return the tick before that of the job."""
        ...


class Checkpoint(MutableMapping[str, Any]):
    """JSON values that outlive an attempt; assigning saves at once, before the action ends.

    While `ctx.session` has written, they are saved with its transaction.
    """

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._content: dict[str, Any] | None = None

    def _loaded(self) -> dict[str, Any]:
        if self._content is None:
            self._content = self._notes.load_checkpoint()
        return self._content

    def __getitem__(self, name: str) -> Any:
        return self._loaded()[name]

    def __setitem__(self, name: str, value: Any) -> None:
        content = {**self._loaded(), name: value}
        self._notes.save_checkpoint(content)
        self._content = content

    def __delitem__(self, name: str) -> None:
        content = {key: value for key, value in self._loaded().items() if key != name}
        self._notes.save_checkpoint(content)
        self._content = content

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaded())

    def __len__(self) -> int:
        return len(self._loaded())


class BaseContext:
    """What sync and async actions see alike."""

    def __init__(
        self,
        *,
        session: Any,
        job: Job,
        now: datetime,
        cancel: CancelSignal | None = None,
        open_notes: Callable[[], Notes] | None = None,
        lifespan: object = NOTHING,
        actors: Actors | None = None,
    ) -> None:
        self.session = session
        self.job = job
        """The job, its present attempt counted."""
        self.now = now
        """When the attempt began, in UTC."""
        self.cancel_signal = CancelSignal() if cancel is None else cancel
        self._open_notes = open_notes
        self._lifespan = lifespan
        self._actors = actors
        self._notes: Notes | None = None
        self._checkpoint: Checkpoint | None = None
        self._actor: Any = _NOT_LOADED
        self._last_tick: Any = _NOT_LOADED

    @property
    def attempt(self) -> int:
        """Number of this attempt, from 1 on."""
        return self.job.attempt

    @property
    def actor(self) -> Any:
        """Who asked for the job, as the `actors=` of the app loads them when first asked.

        None when nobody did, or they are gone; `ctx.job.actor` has the text.
        """
        if self._actor is _NOT_LOADED:
            text = self.job.actor
            self._actor = (
                text if self._actors is None else self._actors.load(self._sync(), text)
            )
        return self._actor

    @property
    def tenant(self) -> str | None:
        """For whom the job runs."""
        return self.job.tenant

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt, crash and retry, until the trigger completed on the record.

        Give it to whatever you call that must not happen twice.
        """
        return self.job.idempotency_key

    @property
    def tick(self) -> datetime | None:
        """The instant of the tick that made the job; None when somebody asked for it."""
        return self.job.tick_at

    @property
    def last_tick(self) -> datetime | None:
        """The tick before that, of those that were not skipped; None when there was none."""
        if self._last_tick is _NOT_LOADED:
            is_known = self.job.tick_at is None
            self._last_tick = None if is_known else self._needed_notes().last_tick()
        last: datetime | None = self._last_tick
        return last

    @property
    def cancel_requested(self) -> bool:
        """Whether the action should stop: its result will not be kept."""
        return bool(self.cancel_signal)

    def from_lifespan(self, kind: type[T]) -> T:
        """Return what the app's `worker_lifespan` yielded: it stays open while the worker runs.

        Args:
            kind: Its class.

        Raises:
            StateJobsError: There is no such thing, or it is of another class.
        """
        return opened_as(self._lifespan, kind)

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that carries the ids of the job."""
        fields = {
            "job_id": self.job.id,
            "key": self.job.key,
            "resource": self.job.resource,
            "record_id": self.job.record_id,
            "attempt": self.job.attempt,
        }
        known = {name: value for name, value in fields.items() if value is not None}
        return logging.LoggerAdapter(logging.getLogger("statejobs.action"), known)

    @property
    def checkpoint(self) -> Checkpoint:
        """JSON values that later attempts of this job find again."""
        if self._checkpoint is None:
            self._checkpoint = Checkpoint(self._needed_notes())
        return self._checkpoint

    def progress(self, done: int, total: int) -> None:
        """Say how far the action is, for people who watch; written at most once a second.

        Raises:
            WrongValueError: Not `0 <= done <= total`.
        """
        check_number("progress(done, …)", done)
        check_number("progress(…, total)", total)
        if not 0 <= done <= total:
            raise WrongValueError(
                "done must lie between 0 and total",
                where=f"progress({done}, {total})",
                fix="say progress(3, 10)",
            )
        self._needed_notes().progress(done, total)

    def _sync(self) -> Session:
        session: Session = self.session
        return session

    def _needed_notes(self) -> Notes:
        if self._open_notes is None:
            raise StateJobsError(
                "this context belongs to no running job, so it keeps no notes",
                fix="leave progress and checkpoint to a body that a worker runs",
            )
        if self._notes is None:  # most actions leave none
            self._notes = self._open_notes()
        return self._notes


class JobContext(BaseContext):
    """What a `def` action sees."""

    session: Session
    """What is written here commits together with the outcome, or not at all.

    Autoflush is off. Reads run in autocommit until the first write, flush or locking read.
    """


class AsyncJobContext(BaseContext):
    """What an `async def` action sees."""

    session: AsyncSession
    """As `JobContext.session`, for asyncio."""

    def _sync(self) -> Session:
        return self.session.sync_session
