"""What running a body comes to: for whom it acts, and what each thing that it raises means."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from sqlalchemy import Connection

from statejobs.acting import acting_for_job
from statejobs.runner.port import Claim
from statejobs.runner.undone import UndoneError, give_back
from statejobs.store.engines.lazy_begin import begun_at, in_transaction
from statejobs.values.failure import describe_failure
from statejobs.values.outcome import (
    Cancel,
    Complete,
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
    """A record is no longer where its claim left it: an answer that no body shall swallow."""


class IsStale(Exception):  # noqa: N818 - an answer, not an error
    """A guard says no to the start of the action."""

    def __init__(self, reason: str) -> None:
        self.outcome = Stale(reason)


class _Ended:
    outcome: Outcome = Complete()


@contextmanager
def outcomes() -> Iterator[_Ended]:
    """Turn whatever is raised inside into an outcome; nothing gets past."""
    ended = _Ended()
    try:
        yield ended
    except (Snooze, Cancel) as asked:
        ended.outcome = request_of(asked)
    except IsStale as found:
        ended.outcome = found.outcome
    except RecordMoved as moved:
        ended.outcome = Superseded(str(moved))
    except UndoneError as error:
        ended.outcome = give_back(error)
    except BaseException as error:  # noqa: BLE001 - sys.exit in an action must not end the worker
        ended.outcome = Fail(failure=describe_failure(error), error=error)


def is_writing(sync: Any) -> bool:
    """Return whether a transaction of the database is open on *sync*, without any I/O."""
    return sync.was_used and sync.in_transaction() and in_transaction(sync.connection())


def identified(claim: Claim) -> AbstractContextManager[None]:
    """Act for the actor and tenant of the job, or for nobody."""
    return acting_for_job(claim.job.actor, claim.job.tenant)


def warn_of_long_transaction(claim: Claim, connection: Connection | None) -> None:
    """Warn when the body of *claim* has kept its transaction open for long."""
    began = begun_at(connection) if connection is not None else None
    if began is None:
        return
    seconds = time.perf_counter() - began
    if seconds > LONG_TRANSACTION:
        log.warning(
            "job %s (%s) kept its transaction open for %.1f s, with its locks; "
            "write after slow calls, not before",
            claim.job.id, claim.job.key, seconds,
        )  # fmt: skip
