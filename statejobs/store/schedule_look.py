"""Schedules as people see and handle them: their rows, their last ticks, paused and resumed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Executable,
    Select,
    bindparam,
    case,
    func,
    null,
    select,
    update,
)

from statejobs.store.tables import schedules, ticks


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSchedule:
    """The row of a schedule."""

    key: str
    spec: str
    next_at: datetime | None
    last_at: datetime | None
    paused_at: datetime | None
    paused_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTick:
    """The row of a tick."""

    key: str
    at: datetime
    began_at: datetime
    enqueued: int
    skipped: int
    done_at: datetime | None
    reason: str | None


def list_schedules(connection: Connection) -> list[StoredSchedule]:
    """Return all rows, by their keys."""
    rows = connection.execute(_list_schedules())
    return [StoredSchedule(**row._mapping) for row in rows]  # noqa: SLF001 - by its names


def last_ticks_of_all(connection: Connection) -> dict[str, StoredTick]:
    """Return the last tick of each schedule that has any."""
    rows = connection.execute(_find_last_ticks())
    return {row.key: StoredTick(**row._mapping) for row in rows}  # noqa: SLF001


def last_ticks(connection: Connection, key: str, *, limit: int) -> list[StoredTick]:
    """Return the last ticks of *key*, the newest first."""
    rows = connection.execute(_find_ticks(), {"schedule": key, "most": limit})
    return [StoredTick(**row._mapping) for row in rows]  # noqa: SLF001


def pause(connection: Connection, key: str, *, by: str | None, now: datetime) -> bool:
    """Pause *key*; return whether it was not paused before."""
    given = {"schedule": key, "who": by, "now": now}
    return connection.execute(_pause(), given).rowcount > 0


def resume(connection: Connection, key: str, *, next_at: datetime | None) -> bool:
    """Resume *key*, and let it be due at that time, but never earlier than it was.

    Returns:
        Whether it was paused.
    """
    statement = _resume() if next_at is None else _resume_at()
    given = {"schedule": key} if next_at is None else {"schedule": key, "due": next_at}
    return connection.execute(statement, given).rowcount > 0


_IS_GIVEN = schedules.c.key == bindparam("schedule")
_TICK = (
    ticks.c.key,
    ticks.c.at,
    ticks.c.began_at,
    ticks.c.enqueued,
    ticks.c.skipped,
    ticks.c.done_at,
    ticks.c.why.label("reason"),
)


def _list_schedules() -> Select[Any]:
    """Return all schedules."""
    return select(
        schedules.c.key,
        schedules.c.spec,
        schedules.c.next_at,
        schedules.c.last_at,
        schedules.c.paused_at,
        schedules.c.paused_by,
    ).order_by(schedules.c.key)


def _find_last_ticks() -> Select[Any]:
    """Return the last tick of each schedule."""
    other = ticks.alias("other")
    last = (
        select(func.max(other.c.at))
        .where(other.c.key == schedules.c.key)
        .correlate(schedules)
        .scalar_subquery()
    )
    return select(*_TICK).join_from(
        schedules, ticks, (ticks.c.key == schedules.c.key) & (ticks.c.at == last)
    )


def _find_ticks() -> Select[Any]:
    """Return ticks of a schedule, the newest first."""
    return (
        select(*_TICK)
        .where(ticks.c.key == bindparam("schedule"))
        .order_by(ticks.c.at.desc())
        .limit(bindparam("most"))
    )


def _pause() -> Executable:
    """Pause a schedule that is not paused."""
    return (
        update(schedules)
        .where(_IS_GIVEN, schedules.c.paused_at.is_(None))
        .values(
            paused_at=bindparam("now", type_=schedules.c.paused_at.type),
            paused_by=bindparam("who", type_=schedules.c.paused_by.type),
        )
    )


def _resume() -> Executable:
    """Resume a paused schedule."""
    return (
        update(schedules)
        .where(_IS_GIVEN, schedules.c.paused_at.is_not(None))
        .values(paused_at=null(), paused_by=null())
    )


def _resume_at() -> Executable:
    """Resume a paused schedule, which is due at another time then."""
    due = bindparam("due", type_=schedules.c.next_at.type)
    later = case((schedules.c.next_at > due, schedules.c.next_at), else_=due)
    return (
        update(schedules)
        .where(_IS_GIVEN, schedules.c.paused_at.is_not(None))
        .values(paused_at=null(), paused_by=null(), next_at=later)
    )
