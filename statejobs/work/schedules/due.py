"""What the ticker takes when it is due, whatever that is: the port of ticks and of sweeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection

from statejobs.store.schedules import ScheduleRow


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedOn:
    """What became of a row that was due."""

    last_at: datetime | None
    """For which instant it was taken last."""
    next_at: datetime | None
    """When it is due again; later than now, or None for never."""
    then: Callable[[], object] | None = None
    """Called when the transaction has committed."""


class Due(Protocol):
    """Something that is done by the clock, and has a row among the schedules."""

    @property
    def key(self) -> str:
        """The key of its row."""
        ...

    @property
    def spec(self) -> str:
        """A digest of when it is due: of a row that has another, other code takes care."""
        ...

    def first_at(self, now: datetime) -> datetime | None:
        """Return when it is due first, of a row that is new or has got this spec."""
        ...

    def take(self, connection: Connection, row: ScheduleRow, now: datetime) -> MovedOn:
        """Do what is due, in the transaction that has locked the *row*; nobody else does."""
        ...


class Pages(Protocol):
    """Goes on with ticks that have more to do than one transaction should."""

    def run_once(self, *, raise_errors: bool = False) -> bool:
        """Take the next page of an unfinished tick; return whether there may be another.

        Raises:
            Exception: With *raise_errors*, what a page met.
        """
        ...
