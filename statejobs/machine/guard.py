"""A condition on a record, with the sentence that people read when it does not hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import getdoc, isroutine
from typing import Any, TypeVar

from statejobs.errors import DefinitionError
from statejobs.values.call_checks import check_call, is_async
from statejobs.values.unrun import ran

Check = Callable[[Any], object]
"""Takes the subject; any true value lets it pass."""
F = TypeVar("F", bound=Check)

_SQL = "__statejobs_sql__"


def guard(*, sql: Check) -> Callable[[F], F]:
    """Give the decorated guard a second form, by which `bulk` asks it of many records in SQL.

    ```python
    @guard(sql=lambda order: order.total > 0)
    def has_amount(self) -> bool:
        \"\"\"Nothing to charge.\"\"\"
        return self.total > 0
    ```

    Args:
        sql: Takes the class of the records and returns the condition. Both forms must mean the
            same; a condition that is NULL refuses.

    Raises:
        DefinitionError: *sql* is not a function of one argument.
    """
    if not callable(sql):
        raise DefinitionError(
            "guard(sql=…)",
            f"{sql!r} is a {type(sql).__name__}, not a function",
            why="columns are known only once the class is mapped",
            fix="wrap it: guard(sql=lambda order: order.total > 0)",
        )
    check_call(
        "guard(sql=…)",
        "it",
        sql,
        given=1,
        why="it is asked once, with the class of the records",
        fix="let it take the class: guard(sql=lambda order: order.total > 0)",
    )

    def declare(function: F) -> F:
        setattr(function, _SQL, sql)
        return function

    return declare


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """A condition on the subject, and what to tell people when it does not hold."""

    name: str
    check: Check
    reason: str
    sql: Check | None = None
    """Takes the class and returns the same condition in SQL, when it was given one."""

    def holds(self, subject: object) -> bool:
        """Ask *subject*; StateJobsError when the function only made what would have to be run."""
        says = self.check(subject)
        return says is True or bool(ran(says, "guard", self.name))

    @classmethod
    def of(cls, function: Check) -> Guard:
        """Make a guard whose reason is the first line of the function's docstring.

        Raises:
            DefinitionError: The function is async.
        """
        plain: Any = function
        while isinstance(plain, partial):
            plain = plain.func
        name = getattr(plain, "__name__", type(plain).__name__)
        _refuse_async(name, plain)
        doc = getdoc(plain) if isroutine(plain) else None
        reason = doc.splitlines()[0] if doc else f"guard {name!r} says no."
        return cls(
            name=name, check=function, reason=reason, sql=getattr(plain, _SQL, None)
        )


def _refuse_async(name: str, function: Check) -> None:
    if is_async(function):
        raise DefinitionError(
            f"guard {name!r}",
            "it is async",
            why="a transition asks its guards at once, and a coroutine counts as yes",
            fix="make it a plain function that reads only the record",
        )
