"""Checks of the options that say when a trigger ticks, and which records it picks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from statejobs.errors import DefinitionError
from statejobs.values import option_checks
from statejobs.values.call_checks import check_plain, misfit
from statejobs.values.option import Check
from statejobs.values.option_checks import span, whole

MOST_ORDERED = 10_000
"""How many records a tick may pick in an order of its own: one statement sorts them."""
_WHERE = "lambda: Order.created_at < ago(hours=24)"
_ORDER = "lambda: Order.created_at"


def cron(where: str, name: str, value: Any) -> str:
    """Check that there is a cron expression."""
    if value is None:
        raise DefinitionError(
            where,
            f"it has no {name}=",
            why="it says when records are picked",
            fix=f'say {name}="*/10 * * * *", or declare it with Trigger.on_demand',
        )
    return option_checks.cron(where, name, value)


def condition(where: str, name: str, value: Any) -> Callable[..., Any]:
    """Check a function that returns a condition, and takes nothing or the class."""
    if value is None:
        raise DefinitionError(
            where,
            f"it has no {name}=",
            why="each tick would pick every record in a source of its action",
            fix=f"say {name}={_WHERE}; or {name}=everything, if each of them is meant",
        )
    return _asked(
        where, name, value, why="it is asked for the condition in SQL", example=_WHERE
    )


def order(where: str, name: str, value: Any) -> Callable[..., Any] | None:
    """Check a function that returns by what records are sorted; None sorts nothing."""
    if value is None:
        return None
    why = "it is asked by what the records are sorted"
    return _asked(where, name, value, why=why, example=_ORDER)


limit: Check = whole(
    1,
    why="it is how many records one tick picks",
    fix="give a number from 1 on, or leave it out",
    or_none=True,
)
batch: Check = whole(
    1,
    why="it is how many records one transaction takes",
    fix="give a number from 1 on, or leave it out",
)
spread: Check = span(
    why="it is the time over which the jobs of a tick are spread",
    fix="give a positive timedelta, or leave it out",
)


def refuse_pairs(
    where: str, *, limit: int | None, is_ordered: bool, chunk: int | None
) -> None:
    """Refuse options that contradict each other.

    Raises:
        DefinitionError: As said.
    """
    if is_ordered and limit is None:
        raise DefinitionError(
            where,
            "order_by= is given, and no limit=",
            why="it says which records come first of those that a tick may pick",
            fix=f"say limit={MOST_ORDERED}, or leave out order_by=",
        )
    if is_ordered and limit is not None and limit > MOST_ORDERED:
        raise DefinitionError(
            where,
            f"order_by= is given, and limit={limit}",
            why="one statement sorts what a tick picks, and so holds all of it",
            fix=f"say limit={MOST_ORDERED} or less, or leave out order_by=",
        )
    if limit is not None and chunk is not None and chunk > limit:
        raise DefinitionError(
            where,
            f"chunk={chunk} is more than limit={limit}",
            why="no tick would make the jobs for one call of the action",
            fix=f"say chunk={limit}, or limit={chunk}",
        )


def _asked(
    where: str, name: str, value: Any, *, why: str, example: str
) -> Callable[..., Any]:
    fix = f"{name}={example}; in a mixin, a function of the class"
    check_plain(where, f"{name}=", value, why=why, fix=fix)
    if misfit(value, 0) is not None and misfit(value, 1) is not None:
        raise DefinitionError(
            where,
            f"{name}= cannot be called: {misfit(value, 0)}",
            why=why,
            fix=fix,
        )
    asked: Callable[..., Any] = value
    return asked
