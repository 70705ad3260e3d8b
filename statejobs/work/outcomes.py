"""What running a body comes to: for whom it acts, and what each thing that it raises means."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager

from statejobs.acting import acting_for_job
from statejobs.runner.port import Claim
from statejobs.runner.undone import UndoneError, give_back
from statejobs.values.failure import describe_failure
from statejobs.values.outcome import (
    Cancel,
    Fail,
    Outcome,
    Snooze,
    Stale,
    Superseded,
    request_of,
)

log = logging.getLogger("statejobs.action")

LONG_TRANSACTION = 1.0
"""Seconds after which an action that kept its transaction open is warned about."""


class RecordMoved(BaseException):
    """A record is no longer where its claim left it: an answer that no body shall swallow.

    It unwinds through the flush of SQLAlchemy in which the session began, and through the body.
    """


def outcome_of(raised: BaseException) -> Outcome:
    """Return the outcome of an attempt whose body *raised* that: nothing gets past."""
    match raised:
        case Snooze() | Cancel() | Stale():
            return request_of(raised)
        case RecordMoved():
            return Superseded(str(raised))
        case UndoneError():
            return give_back(raised)
        case _:
            return Fail(failure=describe_failure(raised), error=raised)


def identified(claim: Claim) -> AbstractContextManager[None]:
    """Act for the actor and tenant of the job, or for nobody."""
    return acting_for_job(claim.job.actor, claim.job.tenant)


def warn_of_long_transaction(claim: Claim, seconds: float) -> None:
    """Warn when the body of *claim* has kept its transaction open for so many *seconds*."""
    if seconds > LONG_TRANSACTION:
        log.warning(
            "job %s (%s) kept its transaction open for %.1f s, with its locks; "
            "write after slow calls, not before",
            claim.job.id,
            claim.job.key,
            seconds,
        )
