"""The steps of a finish, in their one order: look, decide, write. Nothing is committed here.

Looked at is what may change the outcome: whether somebody wants the job to stop, and where its
record is. What is decided is a `Settlement` and a `Move`. Written are the record, then what the
body left in its session, then job, history, attempt and hook.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from statejobs.errors import RecordKeptError
from statejobs.runner.answers import NotWritten
from statejobs.runner.crash_points import CrashPoint, Reach
from statejobs.runner.port import Claim, Ending
from statejobs.runner.settling import Settling
from statejobs.runner.undone import ours
from statejobs.store.finish import find_cancel_request, finish_job, record_attempt
from statejobs.store.following import follow_up
from statejobs.store.history import write_history
from statejobs.store.hold import note_on_job
from statejobs.store.landing import Move, land, land_all
from statejobs.store.store import Store
from statejobs.store.together import complete_all
from statejobs.values.clock import Sources
from statejobs.values.failure import describe_failure
from statejobs.values.job import ENDED, JobOutcome, JobState
from statejobs.values.lifecycle import Landing, Settlement, counted
from statejobs.values.outcome import (
    Cancel,
    Complete,
    Crash,
    Fail,
    HookKind,
    Late,
    Outcome,
    Superseded,
)

log = logging.getLogger("statejobs.runner")


@dataclass(frozen=True, slots=True)
class Settled:
    """How an attempt was recorded."""

    outcome: Outcome
    settlement: Settlement
    state: JobState
    """Of the job."""
    wakes: bool = False
    """Whether other jobs were enqueued with it."""

    @property
    def job_outcome(self) -> JobOutcome | None:
        """How the job ended; None when it goes on, perhaps as it was asked for again."""
        return self.settlement.outcome if self.state in ENDED else None


class Steps:
    """Decides what outcomes do, and writes it."""

    def __init__(self, store: Store, sources: Sources, reach: Reach) -> None:
        self._store = store
        self._sources = sources
        self._reach = reach
        self.settling = Settling(sources, store.redaction)

    def take(
        self, connection: Connection, ending: Ending, *, is_held: bool = False
    ) -> Settled:
        """Take all steps for one *ending*.

        Args:
            connection: With the transaction.
            ending: How the attempt ended.
            is_held: The transaction has locked and checked the record before it wrote anything.

        Raises:
            NotWritten: The job is no longer ours; or what *is_held* has been moved all the same,
                by the attempt itself.
            RecordHiddenError: Nobody can tell where the record is.
            RecordKeptError: The database does not let it go.
        """
        claim = ending.claim
        outcome = self._look(connection, claim, counted(claim.job, ending.outcome))
        settlement = self.settling.settle(claim, outcome)
        if not isinstance(outcome, Superseded):
            move = self._move_of(ending, settlement)
            if move is None or land(connection, move):
                self._reach(CrashPoint.FINISH_RECORD_MOVED)
                return self._write(connection, claim, outcome, settlement, move)
            if is_held:
                raise self._why_not(connection, claim)
        return self._supersede(connection, claim, outcome)

    def take_within(
        self,
        connection: Connection,
        endings: Sequence[Ending],
        *,
        flush: Callable[[], None],
    ) -> list[Settled]:
        """Take all steps for the *endings* of one call, in the transaction of its session.

        Args:
            connection: Of the session, which has begun.
            endings: How the attempts ended; at least one is completed.
            flush: Writes what the body left in the session.

        Raises:
            NotWritten: A job is no longer ours, or a record no longer where its claim left it.
            RecordHiddenError: Nobody can tell where one is.
            RecordKeptError: The database does not let one go.
            UndoneError: A fault of the database that passes.
        """
        completing = [
            ending for ending in endings if isinstance(ending.outcome, Complete)
        ]
        with ours():
            moves = self._land_all(connection, completing)
        self._reach(CrashPoint.FINISH_RECORD_MOVED)
        flush()
        self._reach(CrashPoint.FINISH_FLUSHED)
        with ours():
            completed = self._complete_all(connection, completing, moves)
            return [
                completed.get(ending.claim)
                or self.take(connection, ending, is_held=True)
                for ending in endings
            ]

    def give_up_record(
        self, connection: Connection, claim: Claim, reason: str | None
    ) -> None:
        """Move the record of a job that ends before it began; somebody else may have moved it.

        Raises:
            RecordHiddenError: Nobody can tell where it is.
            RecordKeptError: The database does not let it go.
        """
        now = self._sources.clock.now()
        move = claim.work.move_of(claim, Landing.FAILED, now=now, reason=reason)
        if move is None:
            return
        if land(connection, move):
            _tell_of(connection, [move])
        elif isinstance(kept := self._why_not(connection, claim), RecordKeptError):
            raise kept

    def run_hook(
        self, connection: Connection, claim: Claim, kind: HookKind, reason: str
    ) -> None:
        """Tell the trigger or task how its job ended; what the hook raises is recorded."""
        problem = claim.work.run_hook(connection, claim, kind, reason)
        if problem is None:
            return
        failure = describe_failure(problem, self._store.redaction)
        log.error(
            "%s of %s failed: %s: %s",
            kind,
            claim.job.key,
            failure.error_type,
            failure.message,
        )
        now = self._sources.clock.now()
        record_attempt(connection, claim.job, kind, now=now, failure=failure)

    def _look(self, connection: Connection, claim: Claim, outcome: Outcome) -> Outcome:
        """Return *outcome*; a job that someone asked to stop does not go on, however it ended."""
        if not outcome.may_run_again:
            return outcome
        claim.work.look(connection, claim)  # locks the record: it comes before the job
        reason = find_cancel_request(connection, claim.job)
        return outcome if reason is None else Cancel(reason)

    def _supersede(
        self, connection: Connection, claim: Claim, outcome: Outcome
    ) -> Settled:
        """Record that somebody moved the record, which stays where it is.

        Raises:
            RecordKeptError: Nobody did.
        """
        went = claim.work.look(connection, claim)
        reason = claim.signal.reason or went.reason
        if isinstance(outcome, Superseded):
            reason = reason or outcome.reason
        elif went.reason is None:
            raise RecordKeptError
        superseded = Superseded(reason or "", is_declared=went.is_declared)
        settlement = self.settling.settle(claim, superseded)
        return self._write(
            connection, claim, superseded, settlement, None, rests=went.rests_in_source
        )

    def _why_not(
        self, connection: Connection, claim: Claim
    ) -> NotWritten | RecordKeptError:
        """Return why a move did not land."""
        reason = claim.work.look(connection, claim).reason
        return RecordKeptError() if reason is None else NotWritten(Superseded(reason))

    def _move_of(self, ending: Ending, settlement: Settlement) -> Move | None:
        return ending.claim.work.move_of(
            ending.claim,
            settlement.landing,
            now=self._sources.clock.now(),
            reason=settlement.reason,
            changes=ending.changes,
        )

    def _land_all(
        self, connection: Connection, completing: Sequence[Ending]
    ) -> list[Move]:
        complete = [
            self.settling.settle(ending.claim, ending.outcome) for ending in completing
        ]
        found = map(self._move_of, completing, complete)
        moves = [move for move in found if move is not None]
        if moves and not land_all(connection, moves):
            if len(completing) == 1:
                raise self._why_not(connection, completing[0].claim)
            reason = f"one of {len(moves)} records was moved away, or is kept"
            raise NotWritten(Superseded(reason))
        return moves

    def _complete_all(
        self,
        connection: Connection,
        completing: Sequence[Ending],
        moves: Sequence[Move],
    ) -> dict[Claim, Settled]:
        """Complete the jobs whose records have landed; those asked for again go on."""
        claims = [ending.claim for ending in completing]
        finished: set[int] = set()
        if len(claims) > 1:
            jobs = [claim.job for claim in claims]
            now = self._sources.clock.now()
            finished = complete_all(
                connection, jobs, now, by_arrays=self._store.has_arrays
            )
        for claim in claims:
            if claim.job.id not in finished:
                _note_result(connection, claim)
        rests = moves[0].rests if moves else True  # all of one action
        settled: dict[Claim, Settled] = {}
        for claim in claims:
            settlement = self.settling.settle(claim, Complete())
            state = JobState.COMPLETED
            if claim.job.id not in finished:
                state = self._finish_job(connection, claim, settlement, rests)
            settled[claim] = Settled(Complete(), settlement, state)
        if _tell_of(connection, moves):
            return {claim: replace(how, wakes=True) for claim, how in settled.items()}
        return settled

    def _write(
        self,
        connection: Connection,
        claim: Claim,
        outcome: Outcome,
        settlement: Settlement,
        move: Move | None,
        *,
        rests: bool | None = None,
    ) -> Settled:
        """Write the job, its history, its attempt, and what the hook writes."""
        if isinstance(outcome, Complete):
            _note_result(connection, claim)
        elif claim.unsaved_checkpoint is not None:
            note_on_job(connection, claim.job, "checkpoint", claim.unsaved_checkpoint)
        if rests is None:
            rests = move is None or move.rests
        state = self._finish_job(connection, claim, settlement, rests)
        wakes = move is not None and _tell_of(connection, [move])
        self._record_attempt(connection, claim, outcome, settlement)
        if state in ENDED:
            self._tell_hook(connection, claim, outcome, settlement)
        return Settled(outcome, settlement, state, wakes)

    def _tell_hook(
        self,
        connection: Connection,
        claim: Claim,
        outcome: Outcome,
        settlement: Settlement,
    ) -> None:
        if isinstance(outcome, Superseded):
            self.run_hook(connection, claim, HookKind.SUPERSEDED, outcome.reason)
        elif settlement.landing is Landing.FAILED:
            reason = settlement.reason or settlement.edge
            self.run_hook(connection, claim, HookKind.DISCARD, reason)

    def _finish_job(
        self,
        connection: Connection,
        claim: Claim,
        settlement: Settlement,
        rests: bool,  # noqa: FBT001
    ) -> JobState:
        """End the job, if it is still ours.

        Raises:
            NotWritten: It is not.
        """
        state = finish_job(
            connection,
            claim.job,
            settlement,
            now=self._sources.clock.now(),
            rests_in_source=rests,
            allowance=claim.policy.max_attempts,
        )
        if state is None:
            raise NotWritten(Late())
        return state

    def _record_attempt(
        self,
        connection: Connection,
        claim: Claim,
        outcome: Outcome,
        settlement: Settlement,
    ) -> None:
        name = outcome.kept_as
        job = claim.job
        if name is None or settlement.is_overtaken:
            return  # the attempt did not count, or its end is in the history of the record
        if isinstance(outcome, Crash) and job.owner is None:
            return  # its attempt had ended before; only the record was waited for
        failure = outcome.failure if isinstance(outcome, Fail) else None
        now = self._sources.clock.now()
        record_attempt(
            connection, job, name, now=now, failure=failure, message=settlement.reason
        )


def _note_result(connection: Connection, claim: Claim) -> None:
    """Store what the task of *claim* returned; its job is still to be ended."""
    if claim.result is not None:
        note_on_job(connection, claim.job, "result", claim.result)


def _tell_of(connection: Connection, moves: Sequence[Move]) -> bool:
    """Write the history of *moves*, and what follows; return whether jobs were enqueued."""
    history = [move.history for move in moves if move.history is not None]
    if history:
        write_history(connection, history)
    found = [move.follow_up for move in moves if move.follow_up is not None]
    return bool(found) and follow_up(connection, found, moves[0].at)
