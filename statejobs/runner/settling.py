"""Decides what an outcome does to a job and its record: the rules, with this app's words."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta

from statejobs.runner.port import Claim
from statejobs.values.backoff import safe_delay
from statejobs.values.clock import Sources
from statejobs.values.failure import describe_failure
from statejobs.values.lifecycle import Settlement, backoff_step, settle
from statejobs.values.outcome import Fail, Outcome
from statejobs.values.redaction import Redaction
from statejobs.values.text import REASON_LIMIT, shown_text

log = logging.getLogger("statejobs.runner")


class Settling:
    """Decides, by the clock and chance of its app."""

    def __init__(self, sources: Sources, redaction: Redaction) -> None:
        self._sources = sources
        self._redaction = redaction

    def settle(self, claim: Claim, outcome: Outcome) -> Settlement:
        """Decide what *outcome* does to the job and the record of *claim*."""
        wait = timedelta()
        if isinstance(outcome, Fail) and not claim.job.is_last_attempt:
            wait = self._backoff(claim, outcome)
        settlement = settle(
            claim.job,
            outcome,
            now=self._sources.clock.now(),
            wait=wait,
            max_crashes=claim.policy.max_crashes,
            max_snoozes=claim.policy.max_snoozes,
        )
        if settlement.reason is None:
            return settlement
        reason = shown_text(settlement.reason, REASON_LIMIT, self._redaction)
        return replace(settlement, reason=reason)

    def _backoff(self, claim: Claim, failed: Fail) -> timedelta:
        chosen = claim.job.allowance
        allowance = claim.policy.max_attempts if chosen is None else chosen
        step = backoff_step(claim.job, allowance)
        wait, problem = safe_delay(
            claim.policy.backoff, step, failed.error, self._sources.rng
        )
        if problem is not None:
            failure = describe_failure(problem, self._redaction)
            log.error(
                "backoff of %s failed, the default is used: %s: %s",
                claim.job.key,
                failure.error_type,
                failure.message,
            )
        return wait
