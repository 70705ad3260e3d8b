"""The session of an action: it reads in autocommit, and only the runner commits it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from sqlalchemy import Connection, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, SessionTransaction

from statejobs.record.ledger import CLOCK, IDS, JOB, clock_of
from statejobs.store.engines.lazy_begin import ON_BEGIN, WITH_BEGIN, in_transaction
from statejobs.values.clock import Sources
from statejobs.values.job import Job
from statejobs.values.outcome import Outcome
from statejobs.work.kept_session import KeptTransaction, refused


def session_info(sources: Sources, job: Job | None = None) -> dict[str, Any]:
    """Return what the session of an action knows: clock, ids, and the *job* that history names."""
    info: dict[str, Any] = {CLOCK: sources.clock, IDS: sources.ids}
    if job is not None:
        info[JOB] = (job.id, job.attempt)
    return info


class OnBegin(Protocol):
    """What is done in a transaction of a session that has just begun."""

    @property
    def outcome(self) -> Outcome | None:
        """How the attempt ends, whatever its body makes of it, when something is against it."""
        ...

    def __call__(self, connection: Connection) -> None:
        """Do it on *connection*; what it raises takes the transaction back."""
        ...


class JobSession(Session):
    """What `ctx.session` is. Its writes commit together with the outcome of the job."""

    def __init__(
        self,
        *args: Any,
        with_begin: Callable[[], str] | None = None,
        on_begin: OnBegin | None = None,
        **kwargs: Any,
    ) -> None:
        # AsyncSession passes defaults of its own for both
        super().__init__(
            *args, **{**kwargs, "autoflush": False, "expire_on_commit": False}
        )
        self.may_commit = False
        """Whether the runner commits now."""
        self.was_used = False
        """Whether any statement was sent."""
        self.on_begin = on_begin
        """Called when its first write or locking read has begun a transaction of the database."""
        self.with_begin = with_begin
        """Returns the SQL that is sent with the BEGIN of its transactions."""
        self.kept: KeptTransaction | None = None
        """What the body must not end."""
        self._connection: Connection | None = None

    def allow_commit(self) -> None:
        """Let the runner commit from now on."""
        self.may_commit = True

    def close(self) -> None:
        """Roll back what was not committed; a connection that cannot is dropped, with its locks."""
        try:
            super().close()
        except SQLAlchemyError:
            # the outcome of the job is still to be recorded, on another one
            if self._connection is not None and not self._connection.closed:
                self._connection.invalidate()
                self._connection.close()

    def seconds_open(self) -> float:
        """Return for how long the body has kept its transaction open."""
        return 0.0 if self.kept is None else self.kept.seconds()

    def is_writing(self) -> bool:
        """Return whether a transaction of the database is open, without any I/O."""
        return (
            self.was_used
            and self.in_transaction()
            and in_transaction(self.connection())
        )

    def note_use(self, connection: Connection) -> None:
        """Note that a statement is about to be sent on *connection*."""
        self.was_used = True
        self._connection = connection
        if self.kept is None and not self.may_commit:
            # else a savepoint begins, or the runner's
            self.kept = KeptTransaction(
                connection,
                may_end=lambda: self.may_commit,
                monotonic=clock_of(self.info).monotonic,
            )
        if self.with_begin is not None and (settings := self.with_begin()):
            connection.execution_options(**{WITH_BEGIN: settings})
        if self.on_begin is not None:
            connection.execution_options(**{ON_BEGIN: self.on_begin})


@event.listens_for(JobSession, "before_commit")
def _refuse_commit(session: JobSession) -> None:
    """Half of an action must not be committed without its outcome; savepoints may end."""
    if not session.may_commit and not session.in_nested_transaction():
        raise refused("commit()")


@event.listens_for(JobSession, "after_transaction_end")
def _note_end(session: JobSession, transaction: SessionTransaction) -> None:
    if transaction.parent is None:  # by a rollback, a close, or the runner's commit
        session.kept = None


@event.listens_for(JobSession, "after_begin")
def _note_use(
    session: JobSession, _transaction: object, connection: Connection
) -> None:
    session.note_use(connection)
