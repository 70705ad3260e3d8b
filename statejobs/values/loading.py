"""Loader options of SQLAlchemy, known by their form."""

from __future__ import annotations

from collections.abc import Sequence
from reprlib import repr as short
from typing import Any, Protocol, runtime_checkable

from statejobs.errors import WrongValueError


@runtime_checkable
class LoaderOption(Protocol):
    """What `selectinload(Order.lines)` returns, and its like."""

    def process_compile_state(self, compile_state: Any, /) -> None:
        """Take part in a query."""
        ...


def options_in(value: object) -> tuple[LoaderOption, ...]:
    """Return one loader option, or several, as a tuple.

    Raises:
        WrongValueError: It is something else.
    """
    several = (
        value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    )
    for option in several:
        if isinstance(option, type) or not isinstance(option, LoaderOption):
            raise WrongValueError(
                f"{short(option)} is no loader option",
                fix="say selectinload(Order.lines), or give a list of such",
            )
    return tuple(several)
