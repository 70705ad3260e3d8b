"""One attempt of a task. One that takes no context opens no session."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from statejobs.declare.context import AsyncJobContext, JobContext
from statejobs.record.specs import TaskSpec
from statejobs.record.unloaded import explain_unloaded_in_body
from statejobs.runner.port import Claim, Commit
from statejobs.store.engines.lazy_begin import in_transaction
from statejobs.store.store import Store
from statejobs.values.clock import Sources
from statejobs.values.outcome import Outcome
from statejobs.values.unrun import ran
from statejobs.work.notes import JobNotes
from statejobs.work.outcomes import (
    identified,
    is_writing,
    outcomes,
    warn_of_long_transaction,
)
from statejobs.work.session import JobSession, session_info

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession


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
        taken, self.args = self.args, None
        task = self.task
        return task.signature.decode(stored, task.options.upcast) if taken is None else taken


class TaskRun:
    """An attempt of a `def` task."""

    def __init__(self, store: Store, claim: Claim, sources: Sources, now: datetime) -> None:
        subject: TaskSubject = claim.subject
        self._claim, self._task = claim, subject.task
        self._session: JobSession | None = None
        self._context: tuple[JobContext, ...] = ()
        if self._task.takes_context:
            self._session = JobSession(store.working, info=session_info(sources, claim.job))
            self._session.with_begin = store.with_begin(claim.policy.timeout)
            session = self._session
            notes = JobNotes(store, claim, sources.clock, lambda: self._has_written(session))
            self._context = (
                JobContext(
                    session=self._session, job=claim.job, now=now, cancel=claim.signal, notes=notes
                ),
            )

    def call(self) -> Outcome:
        """Run the body in a context of its own; every exception becomes an outcome."""
        return contextvars.copy_context().run(self._call)

    def own_changes(self) -> dict[str, Any] | None:
        """Return nothing changed, unless the session wrote or has something to write."""
        session = self._session
        if session is None or not (_has_pending(session) or self._has_written(session)):
            return {}
        return None

    def finish(self, commit: Commit) -> None:
        """Call *commit* with the session."""
        assert self._session is not None  # noqa: S101 - without one, nothing was written
        self._session.allow_commit()
        warn_of_long_transaction(self._claim, self._open_connection())
        commit(self._session)

    def close(self) -> None:
        """Roll back what was not committed, and give the connection back."""
        if self._session is not None and not self._claim.is_abandoned:
            self._session.close()

    def _call(self) -> Outcome:
        with identified(self._claim), outcomes() as ended:
            args = self._claim.subject.take_args(self._claim.job.args)
            ran(self._task.body(*self._context, **args), "task", self._task.name)
            if self._session is not None:
                self._session.check_kept()
        return ended.outcome

    def _has_written(self, session: JobSession) -> bool:
        return session.was_used and self._open_connection() is not None

    def _open_connection(self) -> Connection | None:
        assert self._session is not None  # noqa: S101 - notes come with a context
        connection = self._session.connection()
        return connection if in_transaction(connection) else None


class AsyncTaskRun:
    """An attempt of an `async def` task."""

    def __init__(
        self, store: Store, open_engine: Callable[[], AsyncEngine], claim: Claim, sources: Sources,
        now: datetime,
    ) -> None:  # fmt: skip
        subject: TaskSubject = claim.subject
        self._claim, self._task = claim, subject.task
        self._session: AsyncSession | None = None
        self._context: tuple[AsyncJobContext, ...] = ()
        if self._task.takes_context:
            self._session = _async_session(open_engine(), session_info(sources, claim.job))
            sync: Any = self._session.sync_session
            sync.with_begin = store.with_begin(claim.policy.timeout)
            notes = JobNotes(store, claim, sources.clock, lambda: is_writing(sync))
            self._context = (
                AsyncJobContext(
                    session=self._session, job=claim.job, now=now, cancel=claim.signal, notes=notes
                ),
            )

    async def call(self) -> Outcome:
        """Run the body; every exception becomes an outcome."""
        with identified(self._claim), outcomes() as ended:
            args = self._claim.subject.take_args(self._claim.job.args)
            try:
                returned = await self._task.body(*self._context, **args)
            except SQLAlchemyError as error:
                explain_unloaded_in_body(
                    error, self._task.name, session="ctx.session", variable="record"
                )
                raise
            ran(returned, "task", self._task.name)
            if self._session is not None:
                sync: Any = self._session.sync_session
                sync.check_kept()
        return ended.outcome

    def own_changes(self) -> dict[str, Any] | None:
        """Return nothing changed, unless the session ran a statement or has something to write."""
        if self._session is None:
            return {}
        sync: Any = self._session.sync_session
        return None if sync.was_used or _has_pending(sync) else {}

    async def finish(self, commit: Commit) -> None:
        """Call *commit* with the sync face of the session."""
        assert self._session is not None  # noqa: S101 - without one, nothing was written
        sync: Any = self._session.sync_session
        sync.allow_commit()
        await self._session.run_sync(commit)

    async def close(self) -> None:
        """Roll back what was not committed, and give the connection back."""
        if self._session is not None:
            await self._session.close()


def _async_session(engine: AsyncEngine, info: dict[str, Any]) -> AsyncSession:
    from sqlalchemy.ext.asyncio import AsyncSession  # noqa: PLC0415 - needs the async extra

    return AsyncSession(engine, sync_session_class=JobSession, info=info)


def _has_pending(session: Session) -> bool:
    """Return whether a flush would write something."""
    return bool(session.new or session.deleted or session.dirty)
