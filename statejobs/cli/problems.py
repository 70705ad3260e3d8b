"""What went wrong, in three lines: what happened, why, what to type next."""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Iterable
from enum import IntEnum
from typing import Any

import click
from sqlalchemy.exc import DBAPIError

from statejobs.cli.database_problems import meaning_of
from statejobs.errors import (
    ConfigurationError,
    DefinitionError,
    NotFoundError,
    SchemaError,
    StaleTransitionError,
    StateJobsError,
    TransitionRefusedError,
    WrongValueError,
    did_you_mean,
    restored,
)
from statejobs.values.redaction import without_passwords


class Exit(IntEnum):
    """Exit codes of every command."""

    OK = 0
    FAILED = 1
    """The thing that was asked about failed."""
    USAGE = 2
    """Wrong usage, wrong configuration, or a missing extra."""
    NOT_FOUND = 3
    REFUSED = 4
    """The state machine of the record or of the job does not allow it."""
    INTERRUPTED = 130


class Problem(Exception):  # noqa: N818 - every error becomes one, for people
    """An error as people see it; unwinds through click, which runs the commands."""

    def __init__(self, what: str, why: str, fix: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.code = code
        self.fix = _in_lower_case(fix)

    def __reduce__(self) -> tuple[Any, ...]:
        return restored, (type(self), self.args), vars(self)

    def lines(self) -> str:
        """Return the three lines, without passwords."""
        text = without_passwords(
            f"error: {self.what}\n  why: {self.why}\n  try: {self.fix}"
        )
        # as people write it
        return re.sub(r"\b(sqlite|postgresql)\+\w+://", r"\1://", text)

    def document(self) -> dict[str, object]:
        """Return the error for `--json`."""
        return {
            "error": {
                "what": without_passwords(self.what),
                "why": without_passwords(self.why),
                "try": without_passwords(self.fix),
                "exit_code": int(self.code),
            }
        }


def not_found(what: str, name: object, known: Iterable[str], *, look: str) -> Problem:
    """Return the problem of a name that nobody knows; *look* is the command that lists them."""
    hint = did_you_mean(str(name), known)
    return Problem(
        f"no {what} {name!r}; {hint}", f"no {what} has that name", look, Exit.NOT_FOUND
    )


def problem_of(error: BaseException) -> Problem | None:  # noqa: PLR0911 - a line for each kind
    """Return *error* as people see it; None for a bug, which deserves its traceback."""
    match error:
        case Problem():
            return error
        case click.ClickException():
            return _of_click(error)
        case TransitionRefusedError():
            return _of_refusal(error)
        case StateJobsError():
            return _of_ours(error)
        case DBAPIError():
            return _of_database(error)
        case OSError(errno=errno.ENOSPC):
            return Problem(
                "a disk is full", str(error), "make room, then the same again"
            )
        case _:
            return None


_ERRORS: tuple[tuple[type[StateJobsError], str, str, Exit], ...] = (
    (NotFoundError, "it does not exist", "statejobs status", Exit.NOT_FOUND),
    (
        SchemaError,
        "the tables do not fit this version of statejobs",
        "statejobs db upgrade",
        Exit.USAGE,
    ),
    (
        WrongValueError,
        "a value of another kind belongs there",
        "mend it there",
        Exit.USAGE,
    ),
    (DefinitionError, "", "", Exit.USAGE),
    (ConfigurationError, "", "", Exit.USAGE),
    (StaleTransitionError, "", "", Exit.REFUSED),
    (StateJobsError, "it cannot be done now", "statejobs status", Exit.FAILED),
)
"""Why and what to type where the error does not say it, and the exit code."""


def where_raised(error: BaseException) -> str:
    """Return file and line in which *error* arose."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    return (
        f"{frames[-1].filename}, line {frames[-1].lineno}"
        if frames
        else "unknown place"
    )


def _in_lower_case(fix: str) -> str:
    """Begin an advice in lower case, as all do, unless it begins with a name."""
    return re.sub(r"^[A-Z](?=[a-z]+[ ,])", lambda first: first[0].lower(), fix)


_CLICKS_NUMBER = re.compile(r"\bis not a valid (integer|float)( range)?")


def _our_number(found: re.Match[str]) -> str:
    return "is not a whole number" if found[1] == "integer" else "is not a number"


def _of_click(error: click.ClickException) -> Problem:
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context else "statejobs"
    usage = "the command line cannot be read"
    if context:
        usage = " ".join(context.get_usage().split()).replace("Usage:", "usage:")
    what = re.sub(_CLICKS_NUMBER, _our_number, error.format_message().rstrip("."))
    return Problem(what, usage, f"{path} --help", Exit.USAGE)


def _of_ours(error: StateJobsError) -> Problem:
    why, fix, code = next(row[1:] for row in _ERRORS if isinstance(error, row[0]))
    what, why, fix = map(_in_line, (error.headline, error.why or why, error.fix or fix))
    return Problem(what, why, fix, code)


def _in_line(text: str) -> str:
    return " ".join(text.split())


def _of_refusal(error: TransitionRefusedError) -> Problem:
    look = f"record show {error.record}"
    if error.job_id is not None:
        look = f"job show {error.job_id}"
    fix = f"statejobs {look}"
    if error.available:
        ways = ", ".join(error.available)
        fix += f"   (from {error.state!r} it can: {ways})"
    return Problem(error.headline, error.why, fix, Exit.REFUSED)


def _of_database(error: DBAPIError) -> Problem:
    meant = meaning_of(error)
    code = Exit.USAGE if meant.is_configuration else Exit.FAILED
    return Problem(meant.what, meant.why, meant.fix, code)
