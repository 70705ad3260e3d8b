"""The session of an action: it reads in autocommit, and only the runner commits it."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from statejobs.errors import StateJobsError


class JobSession(Session):
    """What `ctx.session` is. Its writes commit together with the outcome of the job."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, autoflush=False, expire_on_commit=False, **kwargs)
        self._may_commit = False

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
