"""Every error of statejobs that reaches a user: what is wrong, where, why, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, ClassVar


def _in_one_line(headline: str, why: str, fix: str) -> str:
    """Join the parts: an advice that begins in upper case is a sentence of its own."""
    told = f"{headline}: {why}" if why else headline
    if not fix:
        return told
    if told.endswith((".", "?", "!")):
        return f"{told} {fix}"
    return f"{told}. {fix}" if fix[0].isupper() else f"{told}; {fix}"


def _in_three_lines(headline: str, why: str, fix: str) -> str:
    return f"{headline}\n  why: {why}\n  fix: {fix}"


class StateJobsError(Exception):
    """Base of all others; raised itself for what none of them names.

    Attributes:
        what: What is wrong.
        where: The declaration, record or call that it is about; empty when *what* says so.
        why: The rule that it breaks, or the cause; empty when *what* says so.
        fix: What to do; empty when the database or the code of the user has to tell.
    """

    _has_lines: ClassVar[bool] = False
    """Whether its text is of three lines; else it is a sentence."""
    _joint: ClassVar[str] = ": "
    """Between where and what."""

    def __init__(
        self, what: str, *, where: str = "", why: str = "", fix: str = ""
    ) -> None:
        self.what, self.where, self.why, self.fix = what, where, why, fix
        told = _in_three_lines if self._has_lines else _in_one_line
        super().__init__(told(self.headline, why, fix))

    @property
    def headline(self) -> str:
        """Where, and what is wrong."""
        return f"{self.where}{self._joint}{self.what}" if self.where else self.what

    def __reduce__(self) -> tuple[Any, ...]:
        # The constructors differ, and none of them takes what `args` holds: the whole text.
        return restored, (type(self), self.args), vars(self)


def restored(kind: type[Exception], args: tuple[Any, ...]) -> Exception:
    """Return an error of *kind* without a call of its constructor: pickle then sets the rest."""
    return kind.__new__(kind, *args)


class DefinitionError(StateJobsError):
    """A declaration cannot work; raised when the class or the app is made."""

    _has_lines = True

    def __init__(self, where: str, what: str, *, why: str, fix: str) -> None:
        super().__init__(what, where=where, why=why, fix=fix)


class ConfigurationError(StateJobsError):
    """A setting of the app, the environment or the command line cannot be used."""

    _has_lines = True

    def __init__(self, what: str, *, why: str, fix: str) -> None:
        super().__init__(what, why=why, fix=fix)


class WrongValueError(StateJobsError, TypeError, ValueError):
    """A value of the wrong kind was given, such as a number where a timedelta belongs."""


class WrongCallError(StateJobsError, TypeError, AttributeError):
    """Something was called on a record that is of its class, or the other way round."""


class ClosedError(StateJobsError):
    """An app was used after its `close()`."""

    def __init__(self) -> None:
        super().__init__(
            "this app was closed, and its connections with it",
            fix="Make a StateJobs where you need one, and close it after its last use",
        )


class SchemaError(StateJobsError):
    """Tables of statejobs are missing or out of date in a database."""


class NotFoundError(StateJobsError):
    """A job, record, resource or queue that was asked for by name does not exist."""


class BindMismatchError(StateJobsError):
    """A record and the job tables live in two databases, so they cannot commit together.

    Attributes:
        resource: Name of the class of the record.
        record_engine: The database of the record.
        job_engine: The database of the job tables.
    """

    def __init__(self, resource: str, record_engine: str, job_engine: str) -> None:
        super().__init__(
            f"{resource} is bound to {record_engine}, but the job tables to {job_engine}",
            why="a transition and its job must commit in one transaction",
            fix="Bind both to the same engine, or give the session one bind",
        )
        self.resource = resource
        self.record_engine, self.job_engine = record_engine, job_engine


class ArgumentsError(StateJobsError):
    """Arguments do not fit the action, or would not survive being stored as JSON.

    Attributes:
        action: The action or transition.
        parameter: Name of the argument; None when it was given by position to no parameter.
        problem: What is wrong with it, why, and what to do, in one line.
    """

    def __init__(
        self,
        action: str,
        parameter: str | None,
        what: str,
        *,
        why: str = "",
        fix: str = "",
    ) -> None:
        which = "" if parameter is None else f"argument {parameter!r} "
        super().__init__(f"{which}{what}", where=action, why=why, fix=fix)
        self.action, self.parameter = action, parameter
        self.problem, self._of_it = _in_one_line(what, why, fix), what

    def of_call(self, number: int, most: int) -> ArgumentsError:
        """Return the same, of one of *most* calls that were given together."""
        what = f"of call {number} of {most} {self._of_it}"
        return ArgumentsError(
            self.action, self.parameter, what, why=self.why, fix=self.fix
        )


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
        job_id: The job that was to be retried or cancelled, where that has refused.
    """

    _joint = " "

    def __init__(
        self,
        transition: str,
        *,
        record: str,
        state: str,
        reasons: Sequence[str],
        available: Sequence[str] = (),
        job_id: int | None = None,
    ) -> None:
        available = tuple(name for name in available if name != transition)
        super().__init__(
            f"cannot {transition!r}",
            where=record,
            why=" ".join(reasons),
            fix=f"From {state!r} you can: {', '.join(available)}." if available else "",
        )
        self.transition, self.record, self.state = transition, record, state
        self.reasons, self.available = tuple(reasons), available
        self.job_id = job_id


class NotAllowedError(TransitionRefusedError):
    """A transition may not be fired by who acts: one of its permissions said no."""


class DuplicateJobError(StateJobsError):
    """A job has the key of a request, which is `Unique` and raises; nothing was enqueued.

    The transaction is as it was before the request, and may go on.

    Attributes:
        key: Of the trigger or task.
        job_id: The job that has the key.
        state: Its state, a `JobState`.
    """

    def __init__(self, key: str, *, job_id: int, state: str) -> None:
        super().__init__(
            f"job {job_id}, which is {state}, has the key of this request already",
            where=key,
            why="its Unique(on_conflict='raise') allows one",
            fix="go on without a job, or say on_conflict='skip'",
        )
        self.key, self.job_id, self.state = key, job_id, state


class TenantMismatchError(StateJobsError):
    """A record of one tenant was about to be moved in the name of another.

    Attributes:
        record: The record, as text.
        tenant: That of the record.
        named: That which was named.
    """

    def __init__(self, record: str, *, tenant: str, named: str) -> None:
        super().__init__(
            f"it is of tenant {tenant!r}, and this is done for {named!r}",
            where=record,
            fix=f"say with tenant({tenant!r}), or name none; roll back first",
        )
        self.record, self.tenant, self.named = record, tenant, named


class BulkError(StateJobsError):
    """SQL alone cannot move or create many records as they are declared."""

    _has_lines = True

    def __init__(self, where: str, what: str, *, why: str, fix: str) -> None:
        super().__init__(what, where=where, why=why, fix=fix)


class RecordKeptError(StateJobsError):
    """The database took the move of a record without an error, and left it where it was."""

    def __init__(self, record: str = "the record") -> None:
        super().__init__(
            f"the database did not move {record}", why="a trigger keeps it"
        )


class RecordHiddenError(StateJobsError):
    """The database hides a record from the role of a worker, which cannot tell where it is.

    Attributes:
        table: Of the record.
        role: Of the worker.
    """

    def __init__(self, table: str, role: str) -> None:
        super().__init__(
            f"row security on {table} hides its record from the role {role}, or it is gone",
            fix="let the policies for SELECT and UPDATE show it, or grant the role BYPASSRLS",
        )
        self.table, self.role = table, role


class RowRefusedError(StateJobsError):
    """Code in the database raised again and again, for one row, what else would pass.

    Attributes:
        words: What it raised.
        times: How often.
    """

    def __init__(self, words: str, *, times: int) -> None:
        super().__init__(
            f"{words} (raised by code in the database, {times} times in a row)"
        )
        self.words, self.times = words, times


class UnreadableRowError(StateJobsError):
    """A row of the job tables holds what no code of ours wrote there."""


class UnreadableRecordError(StateJobsError):
    """The row of a record holds what its model cannot read; the cause says what."""


class JobNotCompletedError(StateJobsError):
    """A job that was waited for ended, and was not completed.

    Attributes:
        job: The job as it ended: its state, outcome and reason.
    """

    def __init__(self, job: Any) -> None:
        super().__init__(
            f"job {job.id} is {job.state}",
            where=job.key,
            why=job.reason or "",
            fix=f"see: statejobs job show {job.id}",
        )
        self.job = job


class WaitTimeoutError(StateJobsError):
    """A job that was waited for has not ended in time."""


class RecordFailedError(StateJobsError):
    """What the action of a chunk said of one record, with `ctx.fail(record, "…")`."""


class StaleTransitionError(StateJobsError):
    """Another transaction moved the record first; nothing of this flush was written.

    Attributes:
        transition: Name of the transition, or of an action's edge.
        record: The record, as text.
        expected: The state in which it was to be.
        found: The state in which it is; None when it is gone.
    """

    def __init__(
        self, transition: str, *, record: str, expected: str, found: str | None
    ) -> None:
        now = "it is gone" if found is None else f"it is in {found!r}"
        called, *_ = transition.split(".")  # people call an action's edge by the action
        super().__init__(
            f"{called!r} expected {expected!r}, but {now}",
            where=record,
            why="someone else was first",
            fix="Roll back, load the record again and decide anew",
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
