"""What the work answers when the runner asks it about records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from statejobs.values.job import Job
from statejobs.values.outcome import Late, Superseded


class Subject(Protocol):
    """What the work port needs to find a record again; the runner never looks further inside."""

    @property
    def kind(self) -> object:
        """What is to be done: only claims of one kind share a call."""
        ...

    @property
    def source(self) -> str | None:
        """State in which the job found the record."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Starts:
    """What became of queued jobs whose records were looked at."""

    ready: Sequence[tuple[Job, Subject]]
    """Jobs with their subject, whose record is now locked and moved."""
    busy: Sequence[Job]
    """Someone else holds the record."""
    stale: Mapping[int, str]
    """Job id → why the record no longer needs it."""
    misfits: Sequence[tuple[Job, str]] = ()
    """Jobs that other code, or a worker of another role, may run, and why this one does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """Where the record of an attempt is."""

    reason: str | None
    """Where, for people; None when it is where the claim left it."""
    rests_in_source: bool
    """Whether it waits for its job again."""
    is_declared: bool
    """Whether a declared transition, or an action, took it away."""


class NotWritten(Exception):  # noqa: N818 - it carries an answer
    """Nothing of a finish is kept, and the attempt ends as *outcome* instead.

    It unwinds through the transaction or the session, which SQLAlchemy then rolls back.
    """

    def __init__(self, outcome: Late | Superseded) -> None:
        super().__init__(outcome)
        self.outcome = outcome
