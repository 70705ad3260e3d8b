"""The session of an action: it reads in autocommit, and only the runner commits it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session

from statejobs.errors import StateJobsError


class JobSession(Session):
    """What `ctx.session` is. Its writes commit together with the outcome of the job."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # AsyncSession passes defaults of its own for both
        super().__init__(*args, **{**kwargs, "autoflush": False, "expire_on_commit": False})
        self._may_commit = False
        self.was_used = False
        """Whether any statement was sent."""

    def commit(self) -> None:
        """Refuse: half of an action must not be committed without its outcome.

        Raises:
            StateJobsError: Unless the runner commits.
        """
        if not self._may_commit:
            raise StateJobsError(
                "ctx.session.commit(): the runner commits, together with the outcome of the job, "
                "when the action returns. Use ctx.checkpoint to keep what later attempts need, "
                "or a session of your own for what must be written whatever happens."
            )
        super().commit()

    def allow_commit(self) -> None:
        """Let the runner commit from now on."""
        self._may_commit = True


@event.listens_for(JobSession, "after_begin")
def _note_use(session: JobSession, *_began: Any) -> None:
    session.was_used = True
