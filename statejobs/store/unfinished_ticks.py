"""Ticks whose pages are not all written: taken by one node at a time, and how far each is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    Select,
    and_,
    bindparam,
    exists,
    select,
    update,
)

from statejobs.store.conditions import KEYS
from statejobs.store.tables import IS_UNDONE, ticks


@dataclass(frozen=True, slots=True, kw_only=True)
class UnfinishedTick:
    """A tick of which some records may not have their jobs yet."""

    key: str
    at: datetime
    """The instant that it stands for."""
    began_at: datetime
    cursor: str | None
    """The last record that was looked at, as text."""
    enqueued: int
    skipped: int
    reason: str | None
    """Why its last page failed, or a record was passed over."""


def find_unfinished(connection: Connection, keys: Sequence[str]) -> list[str]:
    """Return which of *keys* have ticks that are not done, without locking any."""
    return list(connection.scalars(_find_unfinished_keys(), {"keys": list(keys)}))


def lock_unfinished(
    connection: Connection, keys: Sequence[str], *, but: str = ""
) -> UnfinishedTick | None:
    """Lock a tick of *keys* that is not done and nobody works on; of *but* as the last."""
    given = {"keys": list(keys), "but": but}
    row = connection.execute(_lock_unfinished_tick(), given).one_or_none()
    return None if row is None else UnfinishedTick(**row._mapping)  # noqa: SLF001 - its public name


def note_page(
    connection: Connection,
    tick: UnfinishedTick,
    *,
    cursor: str | None,
    enqueued: int,
    skipped: int,
    reason: str | None,
    done_at: datetime | None,
) -> None:
    """Note on a locked tick what became of a page, and tell workers of its jobs."""
    connection.execute(
        _note_page(),
        {
            "of_key": tick.key,
            "of_at": tick.at,
            "to_cursor": cursor,
            "more_enqueued": enqueued,
            "more_skipped": skipped,
            "to_reason": reason,
            "to_done_at": done_at,
        },
    )


def note_reason(connection: Connection, tick: UnfinishedTick, reason: str) -> None:
    """Note why *tick* does not go on."""
    given = {"of_key": tick.key, "of_at": tick.at, "to_reason": reason}
    connection.execute(_note_reason(), given)


@lru_cache(maxsize=1)
def _find_unfinished_keys() -> Select[Any]:
    """Find keys of ticks that are not done."""
    return select(ticks.c.key).distinct().where(IS_UNDONE, ticks.c.key.in_(KEYS))


@lru_cache(maxsize=1)
def _lock_unfinished_tick() -> Select[Any]:
    """Lock the tick that began first, waiting for nobody.

    Of a key it is the oldest, also where that is held: two ticks would pick the same records.
    """
    older = ticks.alias("older_ticks")
    has_older = exists().where(
        older.c.key == ticks.c.key, older.c.done_at.is_(None), older.c.at < ticks.c.at
    )
    return (
        select(
            ticks.c.key,
            ticks.c.at,
            ticks.c.began_at,
            ticks.c.cursor,
            ticks.c.enqueued,
            ticks.c.skipped,
            ticks.c.why.label("reason"),
        )
        .where(IS_UNDONE, ticks.c.key.in_(KEYS), ~has_older)
        .order_by(ticks.c.key == bindparam("but"), ticks.c.began_at, ticks.c.key)
        .limit(1)
        .with_for_update(skip_locked=True, of=ticks)
    )


@lru_cache(maxsize=1)
def _note_page() -> Executable:
    """Note how far a tick is, and what it came to so far."""
    return (
        update(ticks)
        .where(_is_tick())
        .values(
            cursor=bindparam("to_cursor"),
            enqueued=ticks.c.enqueued + bindparam("more_enqueued"),
            skipped=ticks.c.skipped + bindparam("more_skipped"),
            why=bindparam("to_reason"),
            done_at=bindparam("to_done_at", type_=ticks.c.done_at.type),
        )
    )


@lru_cache(maxsize=1)
def _note_reason() -> Executable:
    """Note why a tick that is not done does not go on."""
    return update(ticks).where(_is_tick(), IS_UNDONE).values(why=bindparam("to_reason"))


def _is_tick() -> ColumnElement[bool]:
    at = bindparam("of_at", type_=ticks.c.at.type)
    return and_(ticks.c.key == bindparam("of_key"), ticks.c.at == at)
