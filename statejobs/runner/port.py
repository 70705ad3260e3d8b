"""What the runner needs of those who declared the work. `work` implements it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum, auto
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from statejobs.runner.answers import Starts, Whereabouts
from statejobs.store.landing import Move
from statejobs.values.backoff import Backoff
from statejobs.values.job import Job
from statejobs.values.lifecycle import Landing
from statejobs.values.outcome import CancelSignal, HookKind, Outcome

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How the jobs of one key are run."""

    max_attempts: int
    max_crashes: int
    max_snoozes: int
    backoff: Backoff
    timeout: timedelta | Callable[[Job], timedelta | None] | None
    is_async: bool
    chunk: Chunk | None = None
    """How many of its jobs are run in one call; None runs each by itself."""
    during: str | None = None
    """State of its records while they run, when there is one."""
    is_paused: bool = False
    """Whether none of its jobs is claimed."""
    log_levels: Mapping[str, int] = field(default_factory=dict)
    """Edge of a job → level at which an attempt is logged that ended so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """How many jobs are run in one call."""

    size: int
    """Most jobs of one call."""
    only_waiting: bool = False
    """Whether only jobs that wait for a slot join a call, so that none is held up for another."""


class Phase(IntEnum):
    """How far a claim has come; the only ways are those of `Claim.advance`.

    Numbers, since those of an Enum are hashed in Python, four times a job.
    """

    HELD = auto()
    """It waits, or its body runs."""
    FINISHING = auto()
    """Its outcome is being recorded: whether the job still was ours, that commit tells."""
    SETTLED = auto()
    """An outcome is recorded: by the attempt, the stop, or the timeout."""


@dataclass(slots=True, eq=False)
class Claim:
    """A job that this node holds."""

    job: Job
    subject: Any
    """A `Subject`, made by the work port for itself."""
    policy: Policy
    work: Work
    """Who runs it."""
    began: float
    """Monotonic seconds at the claim; once an attempt began, at its beginning."""
    has_begun: bool = False
    """Whether an attempt began; until then it waits for a slot."""
    signal: CancelSignal = field(default_factory=CancelSignal)
    duration: float | None = None
    """Seconds that the body took."""
    timeout: timedelta | None = None
    """How long its body may take, from the moment on that it is called."""
    is_kept: bool = False
    """Its lease is renewed for as long as it is held."""
    is_dropped: bool = False
    """Its lease could not be renewed in time, and it was asked to stop: it may end nevertheless."""
    is_lost: bool = False
    """The database says that it is no longer ours: no finish begins, and one that began is late."""
    is_unsure: bool = False
    """The answer to its finish was lost, which may have landed."""
    result: str | None = None
    """What its task returned, as JSON, to be stored when it completes."""
    unsaved_checkpoint: str | None = None
    """A checkpoint that could not be saved while the action's transaction was open."""
    asked_at: float | None = None
    """Monotonic seconds at which this node saw that somebody wants it to stop."""
    stop: Callable[[], object] | None = None
    """Cancels the task of its body, or ends the wait for its thread; None where nothing can."""
    stopped_at: float | None = None
    """Monotonic seconds at which that was done, or at which it was given up."""
    has_left: bool = False
    """Whether who served it has come back for more."""
    phase: Phase = Phase.HELD
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def ask_to_stop(self, reason: str, at: float) -> None:
        """Note that somebody wants it to stop, *at* these monotonic seconds; the first stays."""
        if self.asked_at is None:
            self.asked_at = at
        self.signal.set(reason)

    def advance(self, to: Phase) -> bool:
        """Go on to *to*; return whether that was a way from here.

        Several may finish a claim at a time, as an attempt that is late and the stop of its
        worker; the token of the job says whose outcome is recorded.
        """
        with self._lock:
            is_late = self.is_lost and self.phase is Phase.HELD
            if is_late or to not in _WAYS[self.phase]:
                return False
            self.phase = to
            return True

    @property
    def is_settled(self) -> bool:
        """Whether an outcome is recorded."""
        return self.phase is Phase.SETTLED

    @property
    def kind(self) -> object:
        """What is to be done: only claims of one kind share a call."""
        return self.subject.kind, self.job.tenant


@dataclass(frozen=True, slots=True)
class Ending:
    """How the attempt of a claim ends."""

    claim: Claim
    outcome: Outcome
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Columns of its record that are still to be written with its move, attribute → value."""


class Attempt(Protocol):
    """One call of a body, for one claim or as many as share it, and the session it writes through.

    What an `async def` body makes of it is awaited: there, those that return anything return an
    awaitable.
    """

    claims: Sequence[Claim]
    is_abandoned: bool
    """Its thread went on after the timeout: the session is left to it, and never committed."""
    needs_session: bool
    """Whether more is to be written than the changes of `endings`, which tells."""

    def call(self) -> Any:
        """Run the body; every exception becomes an outcome."""
        ...

    def endings(self, called: Outcome) -> list[Ending]:
        """Return how the attempt of each claim ends, after a call that ended as *called*."""
        ...

    def in_session(self, finish: Callable[[Session], R]) -> Any:
        """Return what *finish* returns for the session, where it may do I/O."""
        ...

    def close(self) -> Any:
        """Throw away what was not committed, and give the connection back."""
        ...


class Works(Protocol):
    """The declared work of every kind, by key."""

    def keys(self) -> Sequence[str]:
        """Keys of the jobs that this process can run."""
        ...

    def unpaused_keys(self) -> Sequence[str]:
        """Those of `keys` whose jobs may start."""
        ...

    def policy(self, key: str) -> Policy:
        """Return how jobs of *key* are run."""
        ...

    def of(self, key: str) -> Work:
        """Return who runs the jobs of *key*."""
        ...

    def start(
        self, connection: Connection, jobs: Sequence[Job], now: datetime
    ) -> Starts:
        """Start *jobs* of any kind, as `Work.start` does; those that are ready keep their order."""
        ...


class Work(Protocol):
    """The declared work of one kind."""

    def keys(self) -> Sequence[str]:
        """Keys of the jobs that this process can run."""
        ...

    def policy(self, key: str) -> Policy:
        """Return how jobs of *key* are run."""
        ...

    def start(
        self, connection: Connection, jobs: Sequence[Job], now: datetime
    ) -> Starts:
        """Lock the records of locked, queued *jobs*, waiting for nobody, and move them to `during`.

        Writes history. Uses a fixed number of statements for each key, however many jobs.

        Raises:
            RecordHiddenError: Of the records of a key that are there, if any, it sees none.
            RecordKeptError: The database does not let one of them go.
        """
        ...

    def open(self, claims: Sequence[Claim], now: datetime) -> Attempt:
        """Return an attempt of *claims*, which share a call if they are many, ready to run."""
        ...

    def reload(self, claims: Sequence[Claim]) -> frozenset[int]:
        """Load the records again, with one query, after a call that raised had changed them.

        Returns:
            The ids of the jobs whose record is still where its claim left it.
        """
        ...

    def move_of(
        self,
        claim: Claim,
        landing: Landing,
        *,
        now: datetime,
        reason: str | None = None,
        changes: Mapping[str, Any] | None = None,
    ) -> Move | None:
        """Return where the record goes that an outcome leads to *landing*; None if there is none.

        Args:
            claim: Whose record.
            landing: Where to.
            now: When.
            reason: Why, for history.
            changes: Columns of the record to write with the move.
        """
        ...

    def look(self, connection: Connection, claim: Claim) -> Whereabouts:
        """Lock the record of an attempt, waiting for others; return where it is.

        Raises:
            RecordHiddenError: Nobody can tell.
        """
        ...

    def recover(self, connection: Connection, job: Job) -> Any | None:
        """Lock the record of a job whose worker is gone, waiting for nobody.

        Returns:
            The subject; None when someone holds the record now.
        """
        ...

    def find_at_rest(self, connection: Connection, job: Job) -> Any:
        """Lock the record of a job that could not be claimed; return the subject.

        No move finds a record that rests in no source of its action.
        """
        ...

    def run_hook(
        self, connection: Connection, claim: Claim, kind: HookKind, reason: str
    ) -> BaseException | None:
        """Run the hook of the job that is told of *kind* in a savepoint; return what it raised."""
        ...


_WAYS: Mapping[Phase, frozenset[Phase]] = {
    Phase.HELD: frozenset({Phase.FINISHING}),
    Phase.FINISHING: frozenset(Phase),
    Phase.SETTLED: frozenset(),
}
