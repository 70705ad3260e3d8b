"""Keeps worker processes alive, and ends them in order. Knows no signal and no database."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Protocol

log = logging.getLogger("statejobs.supervisor")

RECYCLED = 75
"""Exit code of a child that asks to be replaced: one of its threads cannot be stopped."""
UNUSABLE = 2
"""Exit code of a child whose configuration cannot work."""
UNOPENED = 76
"""Exit code of a child for which `worker_lifespan` could open nothing."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds before a child that died is replaced
_HEALTHY_LIFE = 60.0  # seconds after which earlier deaths are forgotten
# seconds; one that recycles itself sooner is replaced as if it had died
_HOT_LIFE = 1.0
_MARGIN = 10.0  # seconds that a child gets beyond its grace
_LOOK = 1.0  # seconds between two looks at the children
_LOOK_WHILE_STARTING = 0.05

_IN_VAIN = {UNUSABLE: UNUSABLE, UNOPENED: 1}
"""Exit code of a first child that another would share → that of the supervisor."""


class Order(StrEnum):
    """What a child is told."""

    STOP = "stop"
    """Claim nothing more, wait for running jobs within the grace, end."""
    RELEASE = "release"
    """Give running jobs back now, and end."""


class Child(Protocol):
    """A worker process."""

    pid: int

    def exit_code(self) -> int | None:
        """Return how it ended (negative: by which signal); None while it lives."""
        ...

    def grace(self) -> float | None:
        """Return how many seconds its jobs get at a stop; None until it serves."""
        ...

    def tell(self, order: Order) -> None:
        """Send *order*; one that has died hears nothing."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...


@dataclass(slots=True)
class Slot:
    """The place of one child after another."""

    number: int
    child: Child | None = None
    started_at: float = 0.0
    deaths: int = 0
    """In a row, without a healthy life between."""
    due_at: float = 0.0
    """When the next child is to start."""


@dataclass(slots=True)
class Tally:
    """What a supervisor has seen."""

    started: int = 0
    died: int = 0
    recycled: int = 0
    killed: int = 0


def pause_before_replacement(deaths: int, rng: Random) -> float:
    """Return how long to wait after *deaths* in a row: doubling from 0.5 s to 30 s, with jitter."""
    pause = _FIRST_PAUSE * 2.0 ** min(deaths - 1, 10)
    return min(pause, _LONGEST_PAUSE) * (1 + rng.random() / 4)


class Supervisor:
    """Replaces children that end, until it is told to stop."""

    def __init__(
        self,
        spawn: Callable[[int], Child],
        *,
        processes: int,
        monotonic: Callable[[], float],
        wait: Callable[[float], object],
        rng: Random,
    ) -> None:
        """Make a supervisor; `run` begins.

        Args:
            spawn: Starts the child with this number.
            processes: How many children to keep.
            monotonic: Seconds.
            wait: Waits that many seconds at most; returns early when there is news.
            rng: For jitter.
        """
        self.tally = Tally()
        self.exit_code = 0
        self._spawn = spawn
        self._monotonic = monotonic
        self._wait = wait
        self._rng = rng
        self._slots = [Slot(number) for number in range(1, processes + 1)]
        self._has_served = False
        self._order: Order | None = None
        self._kill_at = float("inf")

    def run(self) -> int:
        """Keep the children until the end; return the exit code."""
        while self.run_once():
            self._wait(self.seconds_to_wait())
        return self.exit_code

    def run_once(self) -> bool:
        """Bury the dead and start whoever is due; return whether there is anything left to do."""
        for slot in self._slots:
            self._reap(slot)
        if self._order is not None:
            self._kill_overdue()
            return any(slot.child for slot in self._slots)
        self._start_due()
        return True

    def stop(self) -> None:
        """The first call lets jobs end within the grace; the second gives them back now."""
        children = self.children()
        if self._order is None:
            self._order = Order.STOP
            patience = max((child.grace() or 0.0 for child in children), default=0.0)
        else:
            self._order = Order.RELEASE
            patience = 0.0
        self._kill_at = self._monotonic() + patience + _MARGIN
        for child in children:
            child.tell(self._order)

    def children(self) -> list[Child]:
        """Return the children that live, as far as is known."""
        return [slot.child for slot in self._slots if slot.child is not None]

    def seconds_to_wait(self) -> float:
        """Return in how many seconds there may be something to do."""
        now = self._monotonic()
        if self._order is None and not self._has_served and self.children():
            return _LOOK_WHILE_STARTING
        due = [self._kill_at - now]
        if self._order is None:
            due += [
                slot.due_at - now for slot in self._startable() if slot.child is None
            ]
        return min(_LOOK, max(min(due), 0.01))

    def _startable(self) -> list[Slot]:
        """One child goes ahead: what is wrong with the configuration is then said once."""
        return self._slots if self._has_served else self._slots[:1]

    def _start_due(self) -> None:
        self._has_served = self._has_served or any(
            c.grace() is not None for c in self.children()
        )
        now = self._monotonic()
        for slot in self._startable():
            if slot.child is None and slot.due_at <= now:
                slot.child = self._spawn(slot.number)
                slot.started_at = now
                self.tally.started += 1

    def _reap(self, slot: Slot) -> None:
        child = slot.child
        code = child.exit_code() if child else None
        if child is None or code is None:
            return
        slot.child = None
        if self._order is not None:
            if child.grace() is not None and code not in {0, RECYCLED}:
                self.exit_code = 1  # what it held is left to be rescued
            return
        self._has_served = self._has_served or child.grace() is not None
        if code in _IN_VAIN and not self._has_served:
            self._order, self.exit_code = Order.STOP, _IN_VAIN[code]  # it said why
            return
        self._plan_replacement(slot, child, code)

    def _plan_replacement(self, slot: Slot, child: Child, code: int) -> None:
        now = self._monotonic()
        life = now - slot.started_at
        if code == RECYCLED and life >= _HOT_LIFE:
            self.tally.recycled += 1
            slot.deaths = 0
            slot.due_at = now
            log.warning("process %s recycled itself; it is replaced now", child.pid)
            return
        self.tally.died += 1
        slot.deaths = 1 if life >= _HEALTHY_LIFE else slot.deaths + 1
        pause = pause_before_replacement(slot.deaths, self._rng)
        slot.due_at = now + pause
        log.warning(
            "process %s ended by itself (%s) after %.1f s; it is replaced in %.1f s",
            child.pid,
            _how(code),
            life,
            pause,
        )

    def _kill_overdue(self) -> None:
        if self._monotonic() < self._kill_at:
            return
        for child in self.children():
            if child.grace() is None:
                log.warning(
                    "process %s is killed while it starts; it holds no job", child.pid
                )
            else:
                log.error(
                    "process %s does not end; it is killed: rescue takes its jobs",
                    child.pid,
                )
                self.exit_code = 1
            child.kill()
            self.tally.killed += 1
        self._kill_at = self._monotonic() + _MARGIN


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
