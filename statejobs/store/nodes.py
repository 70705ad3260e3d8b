"""Worker processes: each has a row, which it renews and which tells what it declares."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    Connection,
    Executable,
    Select,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from statejobs.store.conditions import as_bytes, database_time
from statejobs.store.rows import Beat, text_of
from statejobs.store.store import Store
from statejobs.store.tables import IS_PROCESSING, jobs, nodes


def register_node(store: Store, row: Mapping[str, object]) -> None:
    """Write the row of a worker process."""
    with store.unwaiting() as connection:
        connection.execute(_NODE, dict(row))


def beat_node(
    store: Store,
    node_id: str,
    now: datetime,
    *,
    offset: float | None = None,
    held: str | None = None,
) -> Beat:
    """Renew the row of a worker process.

    Args:
        store: The tables.
        node_id: Whose.
        now: When.
        offset: How far ahead its wall clock is, in seconds.
        held: The keys that it cannot run now, as JSON.
    """
    given = {"node_id": node_id, "now": now, "offset": offset, "held_keys": held}
    with store.unwaiting(of_leases=True) as connection:
        found = connection.execute(_beat_node(store.dialect), given).first()
    return Beat(is_known=found is not None, told=found[0] if found else None)


def ask_time(store: Store) -> datetime:
    """Return the time by the database's own clock."""
    with store.single(of_leases=True) as connection:
        told: datetime = connection.execute(
            select(database_time(store.dialect))
        ).scalar_one()
    return told


def count_held(store: Store, node_id: str) -> int:
    """Count the jobs that a worker process holds, whether it knows of them or not."""
    with store.unwaiting() as connection:
        return int(connection.execute(_COUNT_HELD, {"node": node_id}).scalar_one())


def remove_node(store: Store, node_id: str) -> None:
    """Delete the row of a worker process."""
    with store.unwaiting() as connection:
        connection.execute(_UNNODE, {"node_id": node_id})


def forget_silent_nodes(store: Store, before: datetime) -> None:
    """Delete the rows of worker processes silent since *before*."""
    with store.unwaiting() as connection:
        connection.execute(_SILENT, {"before": before})


def read_declarations(connection: Connection, alive_since: datetime) -> list[str]:
    """Return what the worker processes declare that were alive since then."""
    found = connection.scalars(
        _find_declarations(connection.dialect.name), {"since": alive_since}
    )
    return [text_of(declared) or "" for declared in found]


def find_alive(connection: Connection, alive_since: datetime) -> list[str]:
    """Return the worker processes that were alive since then, as people call them."""
    found = connection.execute(_ALIVE, {"since": alive_since})
    return [f"{row.host}:{row.pid}" for row in found]


def _insert_node() -> Executable:
    """Register a worker process."""
    return insert(nodes)


@lru_cache(maxsize=2)
def _beat_node(dialect: str) -> Executable:
    """Say that a worker process lives; return the time of the database."""
    return (
        update(nodes)
        .where(nodes.c.id == bindparam("node_id"))
        .values(
            beat_at=bindparam("now", type_=nodes.c.beat_at.type),
            clock_offset=bindparam("offset", type_=nodes.c.clock_offset.type),
            held=bindparam("held_keys"),
        )
        .returning(database_time(dialect))
    )


@lru_cache(maxsize=2)
def _find_declarations(dialect: str) -> Select[Any]:
    """Return what each worker process declares that was alive since then."""
    since = bindparam("since", type_=nodes.c.beat_at.type)
    declares = as_bytes(nodes.c.declares, dialect)
    return select(declares).where(
        nodes.c.beat_at >= since, nodes.c.declares.is_not(None)
    )


def _find_alive_nodes() -> Select[Any]:
    """Return the worker processes that were alive since then."""
    since = bindparam("since", type_=nodes.c.beat_at.type)
    return (
        select(nodes.c.host, nodes.c.pid)
        .where(nodes.c.beat_at >= since)
        .order_by(nodes.c.host, nodes.c.pid)
    )


def _count_held_jobs() -> Select[Any]:
    """Count the processing jobs of a worker process."""
    held = (IS_PROCESSING, jobs.c.owner == bindparam("node"))
    return select(func.count()).select_from(jobs).where(*held)


def _delete_node() -> Executable:
    """Remove a worker process that stops."""
    return delete(nodes).where(nodes.c.id == bindparam("node_id"))


def _delete_silent_nodes() -> Executable:
    """Forget worker processes that have been silent since *before*."""
    return delete(nodes).where(
        nodes.c.beat_at < bindparam("before", type_=nodes.c.beat_at.type)
    )


_NODE = _insert_node()
_ALIVE = _find_alive_nodes()
_COUNT_HELD = _count_held_jobs()
_UNNODE = _delete_node()
_SILENT = _delete_silent_nodes()
