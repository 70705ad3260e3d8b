"""Whose fault it is that an attempt did not end well: the action's, or the database's.

A statement of ours has changes that are known: it is repeated. What a body has done is not known:
it must run again, and where that is the database's fault, the attempt does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from sqlalchemy.exc import SQLAlchemyError

from statejobs.store.faults import PASSING, Fault, fault_of, sqlstate_of
from statejobs.values.failure import describe_failure
from statejobs.values.outcome import Fail, GiveBack, Outcome
from statejobs.values.redaction import DEFAULT, Redaction

_LEFT_OPEN = "25P03"
"""SQLSTATE: a transaction was left idle for longer than the server allows."""
_IDLE = "57P05"
"""SQLSTATE: nothing was asked for longer than the server allows, as beside a body that computes."""

WasEveryones = Callable[[BaseException], bool]
"""Whether an outage met more than the connection of the body that was told of it."""


class UndoneError(Exception):
    """A statement of ours met a fault that passes; what the body wrote was rolled back with it.

    It unwinds through the flush of SQLAlchemy that the statement was part of, and through the body.
    """

    def __init__(self, cause: SQLAlchemyError) -> None:
        super().__init__(str(cause))
        self.cause = cause


@contextmanager
def ours() -> Iterator[None]:
    """Tell the faults of what is done inside from those of the body's own statements.

    Raises:
        UndoneError: One that passes.
    """
    try:
        yield
    except SQLAlchemyError as error:
        # What the body left idle is gone with its writes, and would be left so again.
        if passes(error) and sqlstate_of(error) != _LEFT_OPEN:
            raise UndoneError(error) from error
        raise


def passes(error: BaseException) -> bool:
    """Return whether a statement of ours that met *error* may succeed when it is repeated."""
    return fault_of(error) in PASSING


def give_back(error: BaseException) -> GiveBack:
    """Return the outcome of an attempt that the database, not its action, let fail by *error*."""
    cause = error.cause if isinstance(error, UndoneError) else error
    return GiveBack(failure=describe_failure(cause), error=cause)


def described(outcome: Outcome, redaction: Redaction) -> Outcome:
    """Return *outcome* with its error told as *redaction* wants it.

    It was described where it was met, by code that knows of no app.
    """
    if (
        redaction is DEFAULT
        or not isinstance(outcome, Fail | GiveBack)
        or outcome.error is None
    ):
        return outcome
    return replace(outcome, failure=describe_failure(outcome.error, redaction))


def judged(outcome: Outcome, was_everyones: WasEveryones) -> Outcome:
    """Return *outcome*; a failure of a body that is none of its action's is given back."""
    if not isinstance(outcome, Fail) or outcome.error is None:
        return outcome
    error = outcome.error
    match fault_of(error):
        case Fault.CONFLICT | Fault.READ_ONLY:
            return give_back(error)
        case Fault.AWAY if isinstance(error, SQLAlchemyError):
            state = sqlstate_of(error)
            is_own = state == _LEFT_OPEN or (
                state != _IDLE and not was_everyones(error)
            )
            return outcome if is_own else give_back(error)
        case _:
            return outcome
