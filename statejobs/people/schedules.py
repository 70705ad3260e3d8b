"""What people ask about schedules: which there are, when they tick, and how that went."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from statejobs.declare.schedule import Schedule
from statejobs.errors import NotFoundError, did_you_mean
from statejobs.people.desk import Desk
from statejobs.record.ledger import value_of
from statejobs.record.timeouts import StateTimeout
from statejobs.store.schedule_look import (
    StoredSchedule,
    StoredTick,
    last_ticks,
    last_ticks_of_all,
    list_schedules,
)
from statejobs.values.cron import Cron
from statejobs.values.moments import span
from statejobs.values.text import NAME_LIMIT, REASON_LIMIT, shown_text

NEXT = 3
"""How many of the next ticks are told."""
TICKS = 20
"""How many of the last ticks a page shows."""


@dataclass(frozen=True, kw_only=True)
class NextTick:
    """A tick that comes."""

    at: datetime
    local: str
    """By the clock of its zone, with what that zone is called then."""


@dataclass(frozen=True, kw_only=True)
class ShownTick:
    """A tick that has been."""

    at: datetime
    """The instant that it stands for."""
    began_at: datetime
    lag_seconds: float
    """From its instant to its begin."""
    done_at: datetime | None
    """None while records are left."""
    enqueued: int
    """Jobs that it made."""
    skipped: int
    reason: str | None
    """Why it made none, or what keeps it."""


@dataclass(frozen=True, kw_only=True)
class ShownSchedule:
    """A schedule as it may be shown."""

    key: str
    cron: str | None
    """None of one that this code does not declare, and of a timeout of states."""
    timezone: str | None
    words: str | None
    """What `cron` means, or when the timeout fires."""
    next: tuple[NextTick, ...]
    """Nothing while it is paused, or other code has it."""
    last: ShownTick | None
    paused_at: datetime | None
    paused_by: str | None
    is_declared: bool
    """Whether this code declares it."""
    is_started: bool
    """Whether a worker of any code was started that declares it."""
    is_of_other_code: bool
    """Whether the code that was started last has another timetable for it."""


@dataclass(frozen=True, kw_only=True)
class SchedulePage:
    """Everything about one schedule."""

    schedule: ShownSchedule
    ticks: tuple[ShownTick, ...]
    """The last, the newest first."""


def schedule_list(desk: Desk) -> tuple[ShownSchedule, ...]:
    """Return the schedules that this code declares, and those that have a row, by their keys.

    Timeouts of states are among them: they are paused and resumed as others.
    """
    with desk.store.unwaiting() as connection:
        rows = {row.key: row for row in list_schedules(connection)}
    with desk.store.unwaiting() as connection:
        last = last_ticks_of_all(connection)
    keys = sorted({*rows, *declared_by(desk)})
    return tuple(_shown(desk, key, rows.get(key), last.get(key)) for key in keys)


def schedule_page(desk: Desk, key: str) -> SchedulePage:
    """Return everything about the schedule of *key*.

    Raises:
        NotFoundError: There is no such schedule.
    """
    row = schedule_row(desk, key)
    with desk.store.unwaiting() as connection:
        found = last_ticks(connection, key, limit=TICKS)
    schedule = _shown(desk, key, row, found[0] if found else None)
    return SchedulePage(
        schedule=schedule, ticks=tuple(shown_tick(desk, tick) for tick in found)
    )


def schedule_row(desk: Desk, key: str) -> StoredSchedule | None:
    """Return the row of *key*; None of one that was never started.

    Raises:
        NotFoundError: There is no such schedule.
    """
    with desk.store.unwaiting() as connection:
        rows = {row.key: row for row in list_schedules(connection)}
    if key in rows or key in declared_by(desk):
        return rows.get(key)
    if key in desk.registry.known_keys():
        raise NotFoundError(
            f"{key!r} has no schedule",
            fix="those that have one: statejobs schedule list",
        )
    known = sorted({*rows, *declared_by(desk)})
    raise NotFoundError(f"no schedule {key!r}", fix=did_you_mean(key, known))


def shown_tick(desk: Desk, tick: StoredTick) -> ShownTick:
    """Return a stored tick as it may be shown."""
    said = tick.reason
    return ShownTick(
        at=tick.at,
        began_at=tick.began_at,
        lag_seconds=(tick.began_at - tick.at).total_seconds(),
        done_at=tick.done_at,
        enqueued=tick.enqueued,
        skipped=tick.skipped,
        reason=None if said is None else shown_text(said, REASON_LIMIT, desk.redaction),
    )


def _shown(
    desk: Desk, key: str, row: StoredSchedule | None, last: StoredTick | None
) -> ShownSchedule:
    declared = declared_by(desk).get(key)
    cron = declared.timetable.cron if isinstance(declared, Schedule) else None
    is_other = row is not None and declared is not None and row.spec != declared.spec
    is_at_rest = is_other or (row is not None and row.paused_at is not None)
    by = None if row is None else row.paused_by
    return ShownSchedule(
        key=shown_text(key, NAME_LIMIT, desk.redaction),
        cron=None if cron is None else cron.expression,
        timezone=None if cron is None else cron.zone,
        words=None if declared is None else _words(declared),
        next=() if cron is None or is_at_rest else tuple(_next(desk, cron, row)),
        last=None if last is None else shown_tick(desk, last),
        paused_at=None if row is None else row.paused_at,
        paused_by=None if by is None else shown_text(by, NAME_LIMIT, desk.redaction),
        is_declared=declared is not None,
        is_started=row is not None,
        is_of_other_code=is_other,
    )


def declared_by(desk: Desk) -> dict[str, Schedule | StateTimeout]:
    """Return what this code does by the clock, by its keys."""
    timeouts = {timeout.key: timeout for timeout in desk.registry.timeouts}
    return {**desk.registry.schedules, **timeouts}


def _words(declared: Schedule | StateTimeout) -> str:
    if isinstance(declared, Schedule):
        return declared.timetable.cron.in_words()
    sources = " or ".join(value_of(state) for state in declared.declared.source)
    after = span(declared.after.total_seconds())
    return f"{after} after a record came into {sources}"


def _next(desk: Desk, cron: Cron, row: StoredSchedule | None) -> Iterator[NextTick]:
    """Yield the next ticks; one that is due and was not taken yet is the first."""
    at = row.next_at if row is not None else None
    for run in islice(_runs(cron, at, desk.now()), NEXT):
        local = run.astimezone(cron.clock)
        yield NextTick(at=run, local=f"{local:%Y-%m-%d %H:%M} {local:%Z}")


def _runs(cron: Cron, first: datetime | None, now: datetime) -> Iterator[datetime]:
    run = first or cron.after(now)
    while run is not None:
        yield run
        run = cron.after(run)
