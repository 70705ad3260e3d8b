"""A schedule as an app has it: what a key does by a timetable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from statejobs.declare.abstract import mapped_below
from statejobs.declare.task import Task
from statejobs.record.model import ResourceModel
from statejobs.record.specs import BoundTrigger
from statejobs.values.timetable import Timetable


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Schedule:
    """A scheduled action that runs at each tick, or a trigger whose records are looked for."""

    key: str
    timetable: Timetable
    task: Task[..., ..., Any] | None = None
    trigger: tuple[ResourceModel, BoundTrigger] | None = None

    @property
    def spec(self) -> str:
        """What its row is known by: a row of another spec was written by other code."""
        return self.timetable.spec_of(self.key)


def scheduled_on(resource: type) -> Iterator[Task[..., ..., Any]]:
    """Yield the scheduled actions of a resource, of its bases, and of its subclasses."""
    for cls in resource.__mro__:
        for value in vars(cls).values():
            found = value.__func__ if isinstance(value, staticmethod) else value
            if isinstance(found, Task) and found.spec.timetable is not None:
                yield found
    for subclass in mapped_below(resource):
        yield from scheduled_on(subclass)
