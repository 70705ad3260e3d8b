"""What people do to schedules by hand: pause them, let them go on, and tick out of turn."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Connection

from statejobs.acting import current_actor
from statejobs.declare.schedule import Schedule
from statejobs.errors import WrongCallError
from statejobs.people.desk import Desk
from statejobs.people.dry_ticks import ScheduleDryRun, what_it_picks
from statejobs.people.schedules import (
    ShownSchedule,
    ShownTick,
    declared_by,
    schedule_page,
    schedule_row,
    shown_tick,
)
from statejobs.record.timeouts import StateTimeout
from statejobs.store import schedule_look as stored
from statejobs.store.schedules import add_schedules
from statejobs.work.schedules.ticks import Ticks


def pause_schedule(desk: Desk, key: str) -> ShownSchedule:
    """Let *key* tick no more; return it as it is then. One that is paused already stays so.

    Raises:
        NotFoundError: There is no such schedule.
    """
    row = schedule_row(desk, key)
    now = desk.now()
    by = _actor(desk)
    with desk.store.transaction() as connection:
        if row is None:
            declared = declared_by(desk)[key]
            first = _next_of(declared, now) or now
            new = {"key": key, "spec": declared.spec, "next_at": first}
            add_schedules(connection, [new])
        stored.pause(connection, key, by=by, now=now)
    return schedule_page(desk, key).schedule


def resume_schedule(desk: Desk, key: str) -> ShownSchedule:
    """Let *key* tick again, from its next instant on; return it as it is then.

    What fell into the pause is left out, whatever `catch_up` says: somebody wanted none.

    Raises:
        NotFoundError: There is no such schedule.
    """
    row = schedule_row(desk, key)
    if row is not None:
        declared = declared_by(desk).get(key)
        with desk.store.transaction() as connection:
            stored.resume(connection, key, next_at=_next_of(declared, desk.now()))
        desk.store.wake()
    return schedule_page(desk, key).schedule


def run_schedule(desk: Desk, key: str) -> ShownTick:
    """Tick now, out of turn: a tick of its own instant, which moves no other.

    A scheduled action has its job then. The records of a trigger are picked by the workers, page by
    page. It may be paused.

    Raises:
        NotFoundError: There is no such schedule.
        WrongCallError: This code does not declare it.
    """
    schedule = _declared(desk, key)
    with desk.store.transaction() as connection:
        tick, tell = _take(desk, connection, schedule)
    tell()
    return shown_tick(desk, tick)


def dry_run_schedule(desk: Desk, key: str) -> ScheduleDryRun:
    """Return what a tick would do now; nothing is changed.

    Raises:
        NotFoundError: There is no such schedule.
        WrongCallError: This code does not declare it.
    """
    schedule = _declared(desk, key)
    if schedule.trigger is not None:
        return what_it_picks(desk, *schedule.trigger)
    with desk.store.transaction() as connection:
        tick, _ = _take(desk, connection, schedule)
        connection.rollback()
    return ScheduleDryRun(enqueued=tick.enqueued, reason=shown_tick(desk, tick).reason)


def _take(
    desk: Desk, connection: Connection, schedule: Schedule
) -> tuple[stored.StoredTick, Callable[[], object]]:
    """Tick now; return the tick, and what tells of it once it is committed."""
    ticks = Ticks(schedule, desk.store, sources=desk.sources, telemetry=desk.telemetry)
    tell = ticks.take_now(connection, desk.now(), actor=_actor(desk))
    (tick, *_) = stored.last_ticks(connection, schedule.key, limit=1)
    return tick, tell


def _actor(desk: Desk) -> str | None:
    return desk.registry.actors.text_of(current_actor())


def _declared(desk: Desk, key: str) -> Schedule:
    schedule_row(desk, key)
    declared = desk.registry.schedules.get(key)
    if any(timeout.key == key for timeout in desk.registry.timeouts):
        raise WrongCallError(
            f"{key!r} is a timeout of states, which has no ticks",
            why="workers look for its records every few seconds",
            fix="fire the transition on a record, or on many with bulk",
        )
    if declared is None:
        raise WrongCallError(
            f"this code does not declare the schedule {key!r}",
            why="a tick runs what its code says",
            fix="run it by the code that declares it",
        )
    return declared


def _next_of(
    declared: Schedule | StateTimeout | None, now: datetime
) -> datetime | None:
    """Return its next instant; None of what has none, or that this code does not declare."""
    if isinstance(declared, Schedule):
        return declared.timetable.cron.after(now)
    return None
