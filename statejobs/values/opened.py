"""What a worker keeps open while it runs, as the bodies of its jobs ask for it."""

from __future__ import annotations

from reprlib import repr as short
from typing import Any, Final, TypeVar

from statejobs.errors import StateJobsError, WrongValueError
from statejobs.values.article import indefinite

T = TypeVar("T")

NOTHING: Final[Any] = object()
"""No `worker_lifespan` was entered."""


class Opened:
    """What `worker_lifespan` yielded, from its entry on."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: Any = NOTHING


def opened_as(value: object, kind: type[T]) -> T:
    """Return *value*, which a `worker_lifespan` yielded, when it is a *kind*.

    Raises:
        StateJobsError: There is none.
        WrongValueError: It is something else.
    """
    where = f"ctx.from_lifespan({getattr(kind, '__name__', kind)})"
    if not isinstance(kind, type):
        raise WrongValueError(
            f"{where} takes a class, not {short(kind)}",
            fix="give the class of what worker_lifespan yields",
        )
    if value is NOTHING:
        raise StateJobsError(
            "nothing was opened for the worker",
            where=where,
            fix="say StateJobs(…, worker_lifespan=…); in a test, give the context lifespan=…",
        )
    if isinstance(value, kind):
        return value
    raise WrongValueError(
        f"worker_lifespan yielded {indefinite(type(value).__name__)}",
        where=where,
        fix=f"ask for that, or yield {indefinite(kind.__name__)}",
    )
