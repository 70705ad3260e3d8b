"""What a record has done since its last flush: staged in memory, written with the flush."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.orm import object_session
from sqlalchemy.orm.attributes import instance_state

from statejobs.acting import Acting, current_acting
from statejobs.values.clock import Clock, SystemClock
from statejobs.values.graph import Promise

CLOCK = "statejobs.clock"
"""Key in `session.info` of the clock that firing reads."""
JOB = "statejobs.job"
"""Key in `session.info` of id and attempt of the job whose action has the session."""
IDS = "statejobs.ids"
"""Key in `session.info` of the source of ids."""
WAKE = "statejobs.wake"
"""Key in `session.info` of the engines whose workers are told after the commit."""
_LEDGER = "statejobs.ledger"
SYSTEM = SystemClock()
"""By which seconds are measured where a session has no clock, or a record no session."""


@dataclass(slots=True, kw_only=True)
class Step:
    """One transition that a record made in memory."""

    name: str
    source: str | None
    target: str
    promises: tuple[Promise, ...] = ()
    """The jobs that it enqueues."""
    args: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None
    duration: float | None = None
    at: datetime | None = None
    acting: Acting = field(default_factory=current_acting)

    @property
    def leaves(self) -> bool:
        """Whether it leads to another state; one that does not supersedes nothing."""
        return self.source != self.target


class Ledger:
    """Steps of one record, and whether its state may be written now."""

    __slots__ = ("may_write", "pending", "reason", "running")

    def __init__(self) -> None:
        self.pending: list[Step] = []
        self.may_write = False
        self.reason: str | None = None
        """Why the state may be assigned, inside `override_state`."""
        self.running: str | None = None
        """Name of the action that runs on the record as a job."""

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Allow writes to the state inside."""
        before = self.may_write
        self.may_write = True
        try:
            yield
        finally:
            self.may_write = before


def ledger_of(record: object) -> Ledger:
    """Return the ledger of *record*, made at first use."""
    info = instance_state(record).info
    ledger: Ledger | None = info.get(_LEDGER)
    if ledger is None:
        ledger = info[_LEDGER] = Ledger()
    return ledger


def pending_steps(record: object) -> list[Step]:
    """Return the steps of *record* that no flush has written."""
    ledger: Ledger | None = instance_state(record).info.get(_LEDGER)
    return ledger.pending if ledger else []


def has_moved(record: object) -> bool:
    """Return whether *record* is one of ours, and has such steps."""
    return hasattr(type(record), "__statejobs__") and bool(pending_steps(record))


def time_of(record: object) -> datetime | None:
    """Return the time by the clock of the record's session; None before it has one."""
    clock = session_clock(record)
    return None if clock is None else clock.now()


def session_clock(record: object) -> Clock | None:
    """Return the clock of the record's session; None before it has one."""
    session = object_session(record)
    return None if session is None else session.info.get(CLOCK, SYSTEM)


def clock_of(info: Mapping[Any, Any]) -> Clock:
    """Return the clock of a session with *info*."""
    clock: Clock = info.get(CLOCK, SYSTEM)
    return clock


def job_of(info: Mapping[Any, Any]) -> dict[str, int | None]:
    """Return which job moves records through a session with *info*, as history names it."""
    job_id, attempt = info.get(JOB, (None, None))
    return {"job_id": job_id, "attempt": attempt}


def value_of(state: object) -> str:
    """Return the stored text of a state."""
    return str(state.value) if isinstance(state, enum.Enum) else str(state)
