"""Runs many claims in one call of their action; when that raises, each by itself.

A success whose session has nothing to write but columns of the records ends as any other: together
with whatever else is to be committed. Else all that the call did ends in one transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from statejobs.runner.deadline import call_within
from statejobs.runner.ended import Ended
from statejobs.runner.finisher import outcome_of
from statejobs.runner.port import Chunk, Claim, Ending, RecordHidden
from statejobs.runner.undone import ours
from statejobs.store.faults import may_last
from statejobs.values.outcome import Complete, Fail, GiveBack, Late, Outcome, Superseded

if TYPE_CHECKING:
    from statejobs.runner.runner import Runner

log = logging.getLogger("statejobs.runner")

Result = Ended | Ending


def attempt_chunk(runner: Runner, claims: Sequence[Claim]) -> Iterator[Result]:
    """Call the action of *claims*, which are of one kind; yield how each ended, as `attempt` does.

    A claim counts as one attempt, whether its body ran once or, after the call for all, again.
    """
    for claim in claims:
        runner.begin(claim)
    found = _call(runner, claims)
    yield from _one_by_one(runner, claims) if found is None else found


def _call(runner: Runner, claims: Sequence[Claim]) -> list[Result] | None:
    """Return how each ended; None when nothing of the call was kept: each is run by itself then."""
    run = _chunk_of(claims).work.open_chunk(claims, runner.sources.clock.now())
    successes: Sequence[Ending] | None = ()
    try:
        called = call_within(
            run.call, claims, runner.settings.timeout_grace, on_abandoned=runner.abandon
        )
        runner.body_ended(*[claim for claim in claims if claim.duration is None])
        is_abandoned = claims[0].is_abandoned
        if _is_of_one(called) and len(claims) > 1 and not is_abandoned:
            _tell_of_fallback(claims, called)
            return None
        endings = [
            Ending(claim, called, {}) if is_abandoned else run.ending(claim, called)
            for claim in claims
        ]
        ends: Sequence[tuple[Claim, Outcome]] = [(e.claim, e.outcome) for e in endings]
        if isinstance(called, Complete):
            try:
                if (successes := run.successes()) is None:
                    commit = runner.finisher.finish_within
                    return [*run.finish(lambda session: commit(session, endings))]
            except Exception as error:  # noqa: BLE001 - whatever the commit met ends the attempt
                outcome = outcome_of(error)
                if len(claims) > 1 and _is_of_one(outcome):
                    _tell_of_fallback(claims, outcome)
                    return None
                ends = [(e.claim, _own_or(outcome, e, claims)) for e in endings]
    finally:
        run.close()
    left = {success.claim: success for success in successes or ()}
    finish = runner.finisher.finish
    return [left.get(claim) or finish(Ending(claim, outcome)) for claim, outcome in ends]


def _is_of_one(met: Outcome) -> bool:
    """Return whether what a call *met* may concern one of its claims and none of the others."""
    match met:
        case Late() | Fail() | Superseded():
            return True
        case GiveBack(error=error):
            return isinstance(error, RecordHidden) or (error is not None and may_last(error))
        case _:
            return False


def _own_or(met: Outcome, ending: Ending, claims: Sequence[Claim]) -> Outcome:
    """Return how an attempt ends whose commit *met* that: one that failed anyway, as it did."""
    is_own = len(claims) == 1 and not isinstance(ending.outcome, Complete)
    return ending.outcome if is_own else met


def _tell_of_fallback(claims: Sequence[Claim], ended: Outcome) -> None:
    level, why = logging.WARNING, "a late result"
    if isinstance(ended, Superseded):  # a transition of the user's: nobody has to look
        level, why = logging.INFO, ended.reason
    elif isinstance(ended, Fail | GiveBack):
        why = ended.failure.error_type
    log.log(
        level, "a call for %d jobs of %s came to nothing (%s): they are run one by one",
        len(claims), claims[0].job.key, why,
    )  # fmt: skip


def _one_by_one(runner: Runner, claims: Sequence[Claim]) -> Iterator[Result]:
    finisher = runner.finisher
    try:
        with ours():
            standing = _chunk_of(claims).work.reload(claims)
    except Exception as error:  # noqa: BLE001 - the database is away
        yield from (finisher.finish(Ending(claim, outcome_of(error))) for claim in claims)
        return
    for claim in claims:
        if claim.is_lost or claim.is_settled:
            yield finisher.late(claim)
        elif claim.job.id not in standing:
            yield finisher.finish(Ending(claim, Superseded("the record was moved away")))
        else:
            claim.began, claim.duration = runner.sources.clock.monotonic(), None
            yield from _call(runner, (claim,)) or ()


def _chunk_of(claims: Sequence[Claim]) -> Chunk:
    chunk = claims[0].policy.chunk
    assert chunk is not None, "only claims with a chunk share a call"  # noqa: S101
    return chunk
