"""Every exception of statejobs. Each says what, where, why and what to do, and keeps the data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class StateJobsError(Exception):
    """Base of every error that statejobs raises itself."""


class DefinitionError(StateJobsError):
    """A declaration cannot work; raised when the class or the app is made."""

    def __init__(self, where: str, what: str, *, why: str, fix: str) -> None:
        super().__init__(f"{where}: {what}\n  why: {why}\n  fix: {fix}")
        self.where, self.what, self.why, self.fix = where, what, why, fix


class ConfigurationError(StateJobsError):
    """A setting of the app, the environment or the command line cannot be used."""

    def __init__(self, what: str, *, why: str, fix: str) -> None:
        super().__init__(f"{what}\n  why: {why}\n  fix: {fix}")
        self.what, self.why, self.fix = what, why, fix


class WrongValueError(StateJobsError, TypeError, ValueError):
    """A value of the wrong kind was given, such as a number where a timedelta belongs."""


class WrongCallError(StateJobsError, TypeError, AttributeError):
    """Something was called on a record that is of its class, or the other way round."""


class ClosedError(StateJobsError):
    """An app was used after its `close()`."""

    def __init__(self) -> None:
        super().__init__(
            "this app was closed, and its connections with it. Make a StateJobs where you need "
            "one, and close it after its last use"
        )


class SchemaError(StateJobsError):
    """Tables of statejobs are missing or out of date in a database."""


class NotFoundError(StateJobsError):
    """A job, record, resource or queue that was asked for by name does not exist."""


class BindMismatchError(StateJobsError):
    """A record and the job tables live in two databases, so they cannot commit together."""

    def __init__(self, resource: str, record_engine: str, job_engine: str) -> None:
        super().__init__(
            f"{resource} is bound to {record_engine}, but the job tables to {job_engine}; "
            "a transition and its job must commit in one transaction. "
            "Bind both to the same engine, or give the session one bind."
        )
        self.resource, self.record_engine, self.job_engine = (
            resource,
            record_engine,
            job_engine,
        )


class ArgumentsError(StateJobsError):
    """Arguments do not fit the action, or would not survive being stored as JSON.

    Attributes:
        action: The action or transition.
        parameter: Name of the argument; None when it was given by position to no parameter.
        problem: What is wrong.
    """

    def __init__(self, action: str, parameter: str | None, problem: str) -> None:
        which = "" if parameter is None else f"argument {parameter!r} "
        super().__init__(f"{action}: {which}{problem}")
        self.action, self.parameter, self.problem = action, parameter, problem


class ProtectedStateError(StateJobsError):
    """The state of a record was about to be written past its machine."""


class TransitionRefusedError(StateJobsError):
    """A transition may not fire now: wrong state, or a guard said no.

    Attributes:
        transition: Name of the transition.
        record: The record, as text.
        state: The state in which the record is.
        reasons: One sentence for each refusal.
        available: Names of the transitions that could fire from that state.
    """

    def __init__(
        self,
        transition: str,
        *,
        record: str,
        state: str,
        reasons: Sequence[str],
        available: Sequence[str] = (),
    ) -> None:
        available = tuple(name for name in available if name != transition)
        can = f" From {state!r} you can: {', '.join(available)}." if available else ""
        super().__init__(f"{record} cannot {transition!r}: {' '.join(reasons)}{can}")
        self.transition, self.record, self.state = transition, record, state
        self.reasons, self.available = tuple(reasons), available


class BulkError(StateJobsError):
    """SQL alone cannot move or create many records as they are declared."""

    def __init__(self, where: str, what: str, *, why: str, fix: str) -> None:
        super().__init__(f"{where}: {what}\n  why: {why}\n  fix: {fix}")
        self.where, self.what, self.why, self.fix = where, what, why, fix


class RecordKeptError(StateJobsError):
    """The database took the move of a record without an error, and left it where it was."""

    def __init__(self, record: str = "the record") -> None:
        super().__init__(f"the database did not move {record}: a trigger keeps it")


class RowRefusedError(StateJobsError):
    """Code in the database raised again and again, for one row, what else would pass."""

    def __init__(self, words: str, *, times: int) -> None:
        super().__init__(
            f"{words} (raised by code in the database, {times} times in a row)"
        )


class RecordFailedError(StateJobsError):
    """What the action of a chunk said of one record, with `ctx.fail(record, "…")`."""


class StaleTransitionError(StateJobsError):
    """Another transaction moved the record first; nothing of this flush was written."""

    def __init__(
        self, transition: str, *, record: str, expected: str, found: str | None
    ) -> None:
        now = "it is gone" if found is None else f"it is in {found!r}"
        # of an action's edge: what people call it
        called, _, _ = transition.partition(".")
        super().__init__(
            f"{record}: {called!r} expected {expected!r}, but {now}. "
            "Someone else was first: roll back, load the record again and decide anew."
        )
        self.transition, self.record = transition, record
        self.expected, self.found = expected, found


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a hint that names the closest of *known*, or all of them."""
    names = sorted(set(known))
    close = get_close_matches(word, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(names)}" if names else "there are none"
