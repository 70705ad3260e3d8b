"""What became of the instants of schedules: each has one tick, one job, and one effect."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection, select

from statejobs import StateJobs
from statejobs.declare.schedule import Schedule
from statejobs.store.tables import jobs, ticks
from statejobs.values.job import JobState
from tests.chaos.app import Effect, tick_name

PATIENCE = timedelta(seconds=10)
"""How late a tick may be at the end, when nothing is hurt any more."""


@dataclass
class Ticked:
    """What was found; each list but the last names ticks, and is empty when all is well."""

    missing: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    illegal: list[str] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    """By how many seconds each began late, the least first."""


def look_at_ticks(
    connection: Connection, app: StateJobs, *, until: datetime | None = None
) -> Ticked:
    """Judge every schedule of *app*, all of which catch up with all ticks and queue them.

    Args:
        connection: To a database at rest.
        app: Whose schedules.
        until: What was due before then has been taken; without it, up to the last tick.
    """
    found = Ticked()
    for schedule in app.registry.schedules.values():
        _look_at(connection, schedule, until, found)
    found.lags.sort()
    return found


def _look_at(
    connection: Connection,
    schedule: Schedule,
    until: datetime | None,
    found: Ticked,
) -> None:
    of_key = select(ticks).where(ticks.c.key == schedule.key).order_by(ticks.c.at)
    rows = connection.execute(of_key).all()
    if not rows:
        return
    there = {row.at for row in rows}
    first, last = rows[0].at, rows[-1].at
    end = last if until is None else max(last, until)
    due = {first, *schedule.timetable.cron.between(first, end)}
    key = schedule.key
    found.missing += [f"no tick: {tick_name(key, at)}" for at in sorted(due - there)]
    found.illegal += [
        f"a tick of no instant: {tick_name(key, at)}" for at in sorted(there - due)
    ]
    made = _jobs_by_tick(connection, key)
    effects = _effects(connection, key)
    for row in rows:
        name = tick_name(key, row.at)
        found.lags.append((row.began_at - row.at).total_seconds())
        _compare(name, "jobs", len(made.get(row.at, ())), 1, found)
        is_done = JobState.COMPLETED in made.get(row.at, ())
        _compare(name, "effects", effects[name], int(is_done), found)
        if row.skipped:
            found.illegal.append(f"skipped {row.skipped}: {name} ({row.why})")


def _compare(name: str, what: str, seen: int, wanted: int, found: Ticked) -> None:
    if seen != wanted:
        where = found.doubled if seen > wanted else found.missing
        where.append(f"{what} of {name}: {seen}, not {wanted}")


def _jobs_by_tick(connection: Connection, key: str) -> dict[datetime | None, list[str]]:
    by_tick: dict[datetime | None, list[str]] = {}
    query = select(jobs.c.tick_at, jobs.c.state).where(jobs.c.key == key)
    for at, state in connection.execute(query):
        by_tick.setdefault(at, []).append(state)
    return by_tick


def _effects(connection: Connection, key: str) -> Counter[str]:
    of_key = select(Effect.record).where(Effect.record.like(f"{key}@%"))
    return Counter(connection.scalars(of_key))
