"""Finds who is to blame when a batch raised: the batch again in halves, down to one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def in_halves(
    items: Sequence[T],
    act: Callable[[Sequence[T]], None],
    is_blamed: Callable[[Sequence[T], Exception], bool],
    *,
    whole_first: bool = False,
) -> None:
    """Call *act* for parts of *items* until each was in a part that went well, or is blamed.

    Args:
        items: A batch that raised as a whole.
        act: Does a part in a transaction of its own.
        is_blamed: Called with a part that raised; whether that settles it. Otherwise both halves
            of it are tried. It must settle a part of one; what it raises ends everything.
        whole_first: Whether *items* were only a part of what raised, and may all go well.
    """
    pending = [items] if whole_first else _halves_of(items)
    while pending:
        part = pending.pop()
        try:
            act(part)
        except Exception as error:  # noqa: BLE001 - who is to blame for it, is_blamed says
            if not is_blamed(part, error):
                pending += _halves_of(part)


def _halves_of(items: Sequence[T]) -> list[Sequence[T]]:
    """Return both halves, the first at the end; the whole when it is one."""
    middle = len(items) // 2
    return [half for half in (items[middle:], items[:middle]) if half]
