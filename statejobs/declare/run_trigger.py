"""What `run_trigger` takes: triggers, at once or for later."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeAlias

from statejobs.record.specs import PromiseSpec
from statejobs.values.kinds import check_kind


class Promising:
    """What promises a job where a move leads: a `Trigger`, or one for later."""

    @property
    def promise(self) -> PromiseSpec:
        """The job that it promises."""
        raise NotImplementedError


class Later(Promising):
    """A trigger whose job is enqueued for later. Make one with `trigger.after(days=3)`."""

    def __init__(self, promise: PromiseSpec) -> None:
        check_kind("Later()", promise, PromiseSpec, example="remind.after(days=3)")
        self._promise = promise

    @property
    def promise(self) -> PromiseSpec:
        """The job that it promises."""
        return self._promise

    @property
    def delay(self) -> timedelta:
        """How long its job waits."""
        return self._promise.delay

    def __repr__(self) -> str:
        return f"<trigger {self._promise.trigger.options.key} after {self.delay}>"


RunTrigger: TypeAlias = Promising | Sequence[Promising]
"""A trigger, or several."""


def promises_of(run_trigger: RunTrigger | None) -> tuple[PromiseSpec, ...]:
    """Return the jobs that *run_trigger* promises.

    What is no trigger stays as it is: the class, which knows those it may mean, refuses it.
    """
    if run_trigger is None:
        return ()
    given = run_trigger if isinstance(run_trigger, list | tuple) else (run_trigger,)
    return tuple(map(_promise_of, given))


def _promise_of(given: Any) -> PromiseSpec:
    return given.promise if isinstance(given, Promising) else PromiseSpec(given)
