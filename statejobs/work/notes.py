"""Progress and checkpoints of a running job, written to its row.

Each is a transaction of its own, so that it outlives whatever becomes of the attempt. Where one
transaction writes at a time, as on SQLite, none can be while the action's own is open: a checkpoint
is kept then, and written with the outcome; progress, which nobody could see, is left out. So it is
on PostgreSQL while somebody holds the row of the job: he may wait for what the action has locked,
and the server sees no deadlock between two sessions of one worker.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
from msgspec import structs
from sqlalchemy.exc import DBAPIError

from statejobs.errors import ArgumentsError, StateJobsError
from statejobs.runner.port import Claim
from statejobs.store.faults import Fault, fault_of
from statejobs.store.hold import note_on_job
from statejobs.store.schedules import find_tick_before
from statejobs.store.store import Store
from statejobs.values.clock import Clock

_PROGRESS_EVERY = 1.0  # seconds between writes


class JobNotes:
    """Writes notes at once, where the database lets it."""

    def __init__(
        self, store: Store, claim: Claim, clock: Clock, is_writing: Callable[[], bool]
    ) -> None:
        """Bind to a claim.

        Args:
            store: The job tables.
            claim: Whose row is written.
            clock: For the pace of progress.
            is_writing: Returns whether a transaction of the action is open.
        """
        self._store = store
        self._claim = claim
        self._clock = clock
        self._is_writing = is_writing
        self._written_at = float("-inf")

    def progress(self, done: int, total: int) -> None:
        """Write how far the job is, at most once a second, and always at the end."""
        now = self._clock.monotonic()
        if now - self._written_at < _PROGRESS_EVERY and done < total:
            return
        if self._must_wait():
            return
        self._written_at = now
        self._write(
            "progress", msgspec.json.encode({"done": done, "total": total}).decode()
        )

    def load_checkpoint(self) -> dict[str, Any]:
        """Return what earlier attempts saved."""
        text = self._claim.job.checkpoint
        return msgspec.json.decode(text) if text else {}

    def save_checkpoint(self, content: dict[str, Any]) -> None:
        """Save JSON values for later attempts.

        Raises:
            ArgumentsError: A value would not survive.
            StateJobsError: The job is no longer ours.
        """
        text = _plain_json(content)
        if text is None:
            raise ArgumentsError(
                self._claim.job.key,
                "checkpoint",
                "is not plain JSON",
                fix="keep dicts, lists, text and numbers in it",
            )
        is_ours = None if self._must_wait() else self._write_in_time("checkpoint", text)
        if is_ours is False:
            raise StateJobsError(
                "the lease of this job is over",
                why="another attempt may be running",
            )
        self._claim.unsaved_checkpoint = text if is_ours is None else None
        # what runs again within the attempt, as a batch does that came to nothing, finds it too
        self._claim.job = structs.replace(self._claim.job, checkpoint=text)

    def last_tick(self) -> datetime | None:
        """Return the last tick before that of the job which was not skipped."""
        job = self._claim.job
        if job.tick_at is None:
            return None
        with self._store.unwaiting() as connection:
            return find_tick_before(connection, job.key, job.tick_at)

    def _must_wait(self) -> bool:
        return self._store.has_one_writer and self._is_writing()

    def _write_in_time(self, column: str, text: str) -> bool | None:
        """Write a note, as `_write`; wait for the row while the action holds nothing itself."""
        is_ours = self._write(column, text)
        while is_ours is None and not (self._is_writing() or self._claim.is_lost):
            is_ours = self._write(column, text)
        return is_ours

    def _write(self, column: str, text: str) -> bool | None:
        """Write a note; return whether the job is ours still, None when somebody holds its row."""
        try:
            with self._store.transaction(yields=True) as own:
                return note_on_job(own, self._claim.job, column, text)
        except DBAPIError as error:
            if self._store.dialect == "sqlite" or fault_of(error) is not Fault.LOCKED:
                raise
            return None


def _plain_json(content: dict[str, Any]) -> str | None:
    """Return *content* as JSON; None when it would come back as something else."""
    try:
        text = msgspec.json.encode(content).decode()
        return text if msgspec.json.decode(text) == content else None
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
