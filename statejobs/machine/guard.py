"""Conditions on a record, and who acts, with what people read when one does not hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import getdoc, isroutine
from reprlib import repr as short
from typing import Any, ClassVar, Self, TypeVar, overload

from statejobs.errors import DefinitionError
from statejobs.values.article import indefinite
from statejobs.values.call_checks import check_plain, is_async, misfit
from statejobs.values.text import type_name
from statejobs.values.unrun import ran

Check = Callable[[Any], object]
"""Takes the subject; any true value lets it pass."""
AskedOfActor = Callable[[Any, Any], object]
"""Takes the subject, and who acts."""
F = TypeVar("F", bound=Check)
G = TypeVar("G", bound=AskedOfActor)

_SQL = "__statejobs_sql__"


@overload
def guard(*, sql: Check) -> Callable[[F], F]: ...
@overload
def guard(*, sql: AskedOfActor) -> Callable[[G], G]: ...
def guard(*, sql: Callable[..., object]) -> Callable[[Any], Any]:
    """Give the decorated guard a second form, by which `bulk` asks it of many records in SQL.

    ```python
    @guard(sql=lambda order: order.total > 0)
    def has_amount(self) -> bool:
        \"\"\"Nothing to charge.\"\"\"
        return self.total > 0
    ```

    Args:
        sql: Takes the class of the records, and who acts where a permission is decorated, and
            returns the condition. Both forms must mean the same; a condition that is NULL refuses.

    Raises:
        DefinitionError: *sql* is not a function of these.
    """
    if not callable(sql):
        raise DefinitionError(
            "guard(sql=…)",
            f"{short(sql)} is {indefinite(type(sql).__name__)}, not a function",
            why="columns are known only once the class is mapped",
            fix="wrap it: guard(sql=lambda order: order.total > 0)",
        )
    _check_sql(sql)

    def declare(function: Any) -> Any:
        setattr(function, _SQL, sql)
        return function

    return declare


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """A condition on the subject, and what to tell people when it does not hold."""

    kind: ClassVar[str] = "guard"

    name: str
    check: Callable[..., object]
    reason: str
    sql: Callable[..., object] | None = None
    """Takes the class and returns the same condition in SQL, when it was given one."""
    owner: str = ""
    """The transition or action that asks it."""
    label: Callable[[Any], str] = type_name
    """How people call a subject."""

    def holds(self, subject: object) -> bool:
        """Ask *subject*.

        Raises:
            StateJobsError: The function only made what would have to be run.
            Exception: What the function raises, with a note of who was asked.
        """
        try:
            says = self.check(subject)
            return says is True or bool(ran(says, self.kind, self.name))
        except Exception as error:
            self._tell(error, subject)
            raise

    def _tell(self, error: Exception, subject: object) -> None:
        """Note on *error* what raised it, once."""
        whose = f" of {self.owner!r}" if self.owner else ""
        note = f"{self.label(subject)}: {self.kind} {self.name!r}{whose} raised this"
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)

    @classmethod
    def of(
        cls,
        function: Callable[..., object],
        *,
        owner: str = "",
        label: Callable[[Any], str] = type_name,
    ) -> Self:
        """Make one whose reason is the first line of the function's docstring.

        Raises:
            DefinitionError: The function is async.
        """
        plain: Any = function
        while isinstance(plain, partial):
            plain = plain.func
        name = getattr(plain, "__name__", type(plain).__name__)
        _refuse_async(f"{cls.kind} {name!r}", plain)
        doc = getdoc(plain) if isroutine(plain) else None
        reason = doc.splitlines()[0] if doc else f"{cls.kind} {name!r} says no."
        return cls(
            name=name,
            check=function,
            reason=reason,
            sql=getattr(plain, _SQL, None),
            owner=owner,
            label=label,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission(Guard):
    """A condition on the subject and on who acts."""

    kind: ClassVar[str] = "permission"

    def allows(self, subject: object, actor: object) -> bool:
        """Ask *subject* whether *actor*, or nobody, may; raises as `holds` does."""
        try:
            says = self.check(subject, actor)
            return says is True or bool(ran(says, self.kind, self.name))
        except Exception as error:
            self._tell(error, subject)
            raise


def _check_sql(sql: Callable[..., object]) -> None:
    """Refuse an SQL form that takes neither the class alone, nor the class and who acts."""
    where, what = "guard(sql=…)", "it"
    why = (
        "it is asked once, with the class of the records, and who acts for a permission"
    )
    fix = "let it take the class: guard(sql=lambda order: order.total > 0)"
    check_plain(where, what, sql, why=why, fix=fix)
    if (problem := misfit(sql, 1)) is not None and misfit(sql, 2) is not None:
        raise DefinitionError(
            where, f"{what} cannot be called: {problem}", why=why, fix=fix
        )


def _refuse_async(where: str, function: Callable[..., object]) -> None:
    if is_async(function):
        raise DefinitionError(
            where,
            "it is async",
            why="a transition asks its guards at once, and a coroutine counts as yes",
            fix="make it a plain function that reads only the record",
        )
