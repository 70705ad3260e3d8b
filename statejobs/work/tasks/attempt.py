"""One attempt of a task. One that takes no context opens no session."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from statejobs.record.specs import TaskSpec
from statejobs.runner.port import Claim, Ending
from statejobs.store.store import Store
from statejobs.values.clock import Sources
from statejobs.values.failure import first_line
from statejobs.values.opened import Opened
from statejobs.values.outcome import Complete, Outcome
from statejobs.values.results import result_text
from statejobs.work.face import AsyncFace, Face
from statejobs.work.notes import JobNotes
from statejobs.work.outcomes import warn_of_long_transaction
from statejobs.work.session import JobSession

R = TypeVar("R")

log = logging.getLogger("statejobs.action")


@dataclass(slots=True)
class TaskSubject:
    """The task of a claimed job; there is no record to find."""

    task: TaskSpec
    kind: None = None
    source: str | None = None
    args: dict[str, Any] | None = None
    """The arguments, as the claim decoded them; the first run takes them."""

    def take_args(self, stored: str) -> dict[str, Any]:
        """Return the arguments; a second run gets its own, whatever the first did to them."""
        taken = self.args
        self.args = None
        task = self.task
        return (
            task.signature.decode(stored, task.options.upcast)
            if taken is None
            else taken
        )


class TaskAttempt:
    """An attempt of one task."""

    kind = "task"
    variable = "record"
    concludes = False

    __slots__ = (
        "_claim",
        "_context",
        "_face",
        "_task",
        "actor",
        "claims",
        "is_abandoned",
        "may_load",
        "name",
        "needs_session",
    )

    def __init__(
        self,
        face: Face | AsyncFace,
        claims: Sequence[Claim],
        *,
        store: Store,
        sources: Sources,
        now: datetime,
        opened: Opened,
    ) -> None:
        self.claims = claims
        self.is_abandoned = False
        self.needs_session = False
        (claim,) = claims
        task: TaskSpec = claim.subject.task
        self._face = face
        self._claim = claim
        self._task = task
        self.name = task.name
        self.actor = claim.job.actor
        self._context: tuple[Any, ...] = ()
        sync = face.sync
        has_session = sync is not None
        self.may_load = has_session and face.is_async and task.actors.codec is not None
        if sync is not None:
            open_notes = partial(JobNotes, store, claim, sources.clock, sync.is_writing)
            self._context = (
                face.context(
                    session=face.session,
                    job=claim.job,
                    now=now,
                    cancel=claim.signal,
                    open_notes=open_notes,
                    lifespan=opened.value,
                    actors=task.actors,
                ),
            )

    def call(self) -> Any:
        """Run the body; every exception becomes an outcome."""
        return self._face.call(self)

    def prepare(self) -> Callable[[], Any]:
        """Return the call of the body."""
        if self.may_load:
            _ = self._context[0].actor  # a touch in the body could not load it
        args = self._claim.subject.take_args(self._claim.job.args)
        return partial(self._task.body, *self._context, **args)

    def conclude(self, returned: object) -> None:
        """Keep what the body *returned*, if it can be stored; it is done either way."""
        job = self._claim.job
        try:
            self._claim.result = result_text(returned)
        except Exception as error:  # noqa: BLE001 - how a model is dumped is the user's
            log.warning(
                "job %s (%s) has no result: %s", job.id, job.key, first_line(error)
            )

    def endings(self, called: Outcome) -> list[Ending]:
        """Return how the attempt ends."""
        sync = self._face.sync
        if sync is not None and isinstance(called, Complete):
            is_pending = bool(sync.new or sync.deleted or sync.dirty)
            self.needs_session = is_pending or sync.is_writing()
        return [Ending(self._claim, called)]

    def in_session(self, finish: Callable[[JobSession], R]) -> Any:
        """Return what *finish* returns for the session, where it may do I/O."""
        return self._face.run(partial(self._finish, finish))

    def close(self) -> Any:
        """Roll back what was not committed, and give the connection back."""
        return None if self.is_abandoned else self._face.close()

    def _finish(self, finish: Callable[[JobSession], R], session: JobSession) -> R:
        session.allow_commit()
        if session.is_writing():
            warn_of_long_transaction(self._claim, session.seconds_open())
        return finish(session)
