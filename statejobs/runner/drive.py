"""A procedure that is written once, and taken step by step: at once, or awaited."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

T = TypeVar("T")

Driven = Generator[Callable[[], Any], Any, T]
"""Yields what blocks, is given what that returned or raised, and returns what all came to."""


def drive(steps: Driven[T]) -> T:
    """Take *steps*; return what they come to."""
    try:
        step = next(steps)
        while True:
            try:
                answer = step()
            except BaseException as error:  # noqa: BLE001 - it is theirs to judge
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        found: T = end.value
        return found


async def drive_async(steps: Driven[T]) -> T:
    """Take *steps*, each of which is awaited; return what they come to."""
    try:
        step = next(steps)
        while True:
            try:
                answer = await step()
            except BaseException as error:  # noqa: BLE001 - it is theirs to judge
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        found: T = end.value
        return found
