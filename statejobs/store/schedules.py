"""Schedules and their ticks: rows written at a start, taken when they are due, and moved on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    Connection,
    Executable,
    ScalarSelect,
    Select,
    bindparam,
    func,
    select,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from statejobs.store.conditions import as_bytes
from statejobs.store.tables import IS_UNDONE, schedules, ticks


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRow:
    """When a schedule is due, and how far it is."""

    key: str
    spec: str
    next_at: datetime | None
    last_at: datetime | None
    paused_at: datetime | None
    cursor: str | None


def add_schedules(connection: Connection, rows: Sequence[Mapping[str, object]]) -> None:
    """Write the rows of schedules that have none: key, spec and next_at of each."""
    connection.execute(_add_schedule(connection.dialect.name), rows)


def find_schedules(connection: Connection, keys: Sequence[str]) -> list[ScheduleRow]:
    """Return the rows of *keys*."""
    rows = connection.execute(_find_schedules(), {"keys": list(keys)})
    return [ScheduleRow(**row._mapping) for row in rows]  # noqa: SLF001 - by its names


def lock_other_specs(
    connection: Connection, keys: Sequence[str], specs: Sequence[str]
) -> list[ScheduleRow]:
    """Lock those rows of *keys* that have none of *specs*, in the order of their keys."""
    given = {"keys": list(keys), "specs": list(specs)}
    rows = connection.execute(_lock_other_specs(), given)
    return [ScheduleRow(**row._mapping) for row in rows]  # noqa: SLF001


def write_spec(
    connection: Connection, key: str, spec: str, next_at: datetime | None
) -> None:
    """Let the row of *key*, which is locked, be that of *spec*."""
    given = {"schedule": key, "new_spec": spec, "due": next_at}
    connection.execute(_write_spec(), given)


def lock_due(
    connection: Connection, key: str, spec: str, now: datetime
) -> ScheduleRow | None:
    """Lock the row of *key*, if it is of *spec*, is due, and nobody else has it."""
    given = {"schedule": key, "spec": spec, "now": now}
    row = connection.execute(_lock_due(), given).first()
    return None if row is None else ScheduleRow(**row._mapping)  # noqa: SLF001


def move_on(
    connection: Connection,
    key: str,
    *,
    last_at: datetime | None,
    next_at: datetime | None,
) -> None:
    """Write when the schedule of *key*, which is locked, was due last, and is next."""
    given = {"schedule": key, "last": last_at, "due": next_at}
    connection.execute(_move_on(), given)


def keep_cursor(
    connection: Connection, key: str, cursor: str | None, *, next_at: datetime | None
) -> None:
    """Write how far *key* was swept; and when it goes on, where that is not to wait."""
    given = {"schedule": key, "how_far": cursor, "due": next_at}
    connection.execute(_keep_cursor(), given)


def add_tick(connection: Connection, row: Mapping[str, object]) -> bool:
    """Write a tick; return whether there was none of its key and instant."""
    added = connection.execute(_add_tick(connection.dialect.name), dict(row))
    return added.first() is not None


def skip_tick(connection: Connection, key: str, at: datetime, reason: str) -> None:
    """Note of a tick that it made no job."""
    connection.execute(_skip_tick(), {"schedule": key, "instant": at, "reason": reason})


def find_tick_before(connection: Connection, key: str, at: datetime) -> datetime | None:
    """Return the last tick of *key* before that *at*; those that were skipped do not count."""
    found: datetime | None = connection.scalar(
        _find_tick_before(), {"schedule": key, "instant": at}
    )
    return found


def next_tick(dialect: str) -> ScalarSelect[Any]:
    """Return when the first schedule of `specs` is due, or when an unfinished tick began.

    As bytes on SQLite, where it may be anything.
    """
    first = func.min(schedules.c.next_at)
    began = func.min(ticks.c.began_at)
    each = union_all(
        select(as_bytes(first, dialect).label("at")).where(
            schedules.c.paused_at.is_(None), schedules.c.spec.in_(_SPECS)
        ),
        select(as_bytes(began, dialect)).where(IS_UNDONE, ticks.c.key.in_(_TICK_KEYS)),
    ).subquery("each_tick")
    return select(func.min(each.c.at)).scalar_subquery()


_SPECS: Any = bindparam("specs", expanding=True)
_KEYS: Any = bindparam("keys", expanding=True)
_TICK_KEYS: Any = bindparam("tick_keys", expanding=True)
_IS_GIVEN = schedules.c.key == bindparam("schedule")
_DUE = bindparam("due", type_=schedules.c.next_at.type)


@lru_cache(maxsize=2)
def _add_schedule(dialect: str) -> Executable:
    """Insert the row of a schedule that has none."""
    added: Executable = _insert(schedules, dialect).on_conflict_do_nothing()
    return added


@lru_cache(maxsize=1)
def _find_schedules() -> Select[Any]:
    """Find the rows of `keys`."""
    return select(*_READ).where(schedules.c.key.in_(_KEYS))


@lru_cache(maxsize=1)
def _lock_other_specs() -> Select[Any]:
    """Lock the rows of `keys` that other code has written."""
    return (
        select(*_READ)
        .where(schedules.c.key.in_(_KEYS), schedules.c.spec.not_in(_SPECS))
        .order_by(schedules.c.key)
        .with_for_update()
    )


@lru_cache(maxsize=1)
def _write_spec() -> Executable:
    """Give a schedule another spec, and when it is due by that."""
    values = {"spec": bindparam("new_spec"), "next_at": _DUE}
    return update(schedules).where(_IS_GIVEN).values(values)


@lru_cache(maxsize=1)
def _lock_due() -> Select[Any]:
    """Lock a schedule that is due, waiting for nobody."""
    return (
        select(*_READ)
        .where(
            _IS_GIVEN,
            schedules.c.spec == bindparam("spec"),
            schedules.c.paused_at.is_(None),
            schedules.c.next_at <= bindparam("now", type_=schedules.c.next_at.type),
        )
        .with_for_update(skip_locked=True)
    )


@lru_cache(maxsize=1)
def _move_on() -> Executable:
    """Let a schedule be due later."""
    last = bindparam("last", type_=schedules.c.last_at.type)
    return update(schedules).where(_IS_GIVEN).values(last_at=last, next_at=_DUE)


@lru_cache(maxsize=1)
def _keep_cursor() -> Executable:
    """Note how far a timeout was swept."""
    next_at = func.coalesce(_DUE, schedules.c.next_at)
    values = {"cursor": bindparam("how_far"), "next_at": next_at}
    return update(schedules).where(_IS_GIVEN).values(values)


@lru_cache(maxsize=2)
def _add_tick(dialect: str) -> Executable:
    """Insert a tick, if there is none of its key and instant."""
    added = _insert(ticks, dialect).on_conflict_do_nothing()
    written: Executable = added.returning(ticks.c.at)
    return written


@lru_cache(maxsize=1)
def _skip_tick() -> Executable:
    """Take back that a tick made a job."""
    values = {"enqueued": 0, "skipped": 1, "why": bindparam("reason")}
    return update(ticks).where(_is_tick()).values(values)


@lru_cache(maxsize=1)
def _find_tick_before() -> Select[Any]:
    """Find the last tick before another that did its work."""
    instant = bindparam("instant", type_=ticks.c.at.type)
    return (
        select(ticks.c.at)
        .where(ticks.c.key == bindparam("schedule"), ticks.c.at < instant)
        .where(ticks.c.why.is_(None))
        .order_by(ticks.c.at.desc())
        .limit(1)
    )


def _is_tick() -> Any:
    instant = bindparam("instant", type_=ticks.c.at.type)
    return (ticks.c.key == bindparam("schedule")) & (ticks.c.at == instant)


def _insert(table: Any, dialect: str) -> Any:
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    return insert(table)


_READ = (
    schedules.c.key,
    schedules.c.spec,
    schedules.c.next_at,
    schedules.c.last_at,
    schedules.c.paused_at,
    schedules.c.cursor,
)
