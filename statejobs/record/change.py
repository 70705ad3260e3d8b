"""A change that transitions and actions make beside their bodies: of one record, and in SQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from statejobs.values.call_checks import check_call
from statejobs.values.kinds import check_text, words_of
from statejobs.values.unrun import ran


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeContext:
    """What a change is told beside the record."""

    now: datetime
    """When the record moves, in UTC."""
    actor: Any = None
    """Who acts; of a job, who asked for it."""
    tenant: str | None = None
    """For whom."""


Apply = Callable[[Any, ChangeContext], object]
"""Takes a record, and changes it."""
ChangeInSql = Callable[[Any, datetime], Mapping[Any, Any]]
"""Takes the class and the time; returns attribute or name → value or SQL expression."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A reusable change of a record, for `changes=` of transitions and actions.

    ```python
    forget = Change(
        apply=lambda customer, ctx: customer.forget(),
        sql=lambda cls, now: {"name": None, "email": None},
    )
    ```

    Args:
        apply: Takes the record and a `ChangeContext`, after the body and before the record moves.
        sql: Takes the class and the time, and returns what `bulk` writes instead.
        name: How errors and the machine call it. Default: the name of `apply`.
        attributes: Columns of the record that it sets; a class that lacks one is refused.

    Raises:
        DefinitionError: A function that cannot be called so.
    """

    apply: Apply
    sql: ChangeInSql | None = None
    name: str = ""
    attributes: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Refuse what could not be called."""
        check_call(
            "Change(apply=…)",
            "it",
            self.apply,
            given=2,
            why="it is called with the record and a ChangeContext",
            fix="apply=lambda order, ctx: setattr(order, 'coupon', None)",
        )
        if self.sql is not None:
            check_call(
                "Change(sql=…)",
                "it",
                self.sql,
                given=2,
                why="it is called with the class and the time",
                fix="sql=lambda cls, now: {'coupon': None}",
            )
        name = self.name or getattr(self.apply, "__name__", type(self.apply).__name__)
        check_text("Change(name=…)", name, example="forget")
        words = words_of("Change(attributes=…)", self.attributes, example='["coupon"]')
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "attributes", words)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeOfKind(Change):
    """A change of columns that must hold values of some kind."""

    holds: str
    """In words: `"time"`."""
    kinds: frozenset[type]
    """What the values of such a column are in Python."""


def apply_changes(
    changes: Sequence[Change], record: object, ctx: ChangeContext
) -> None:
    """Let each of *changes* change *record*, in their order."""
    for change in changes:
        ran(change.apply(record, ctx), "change", change.name)
