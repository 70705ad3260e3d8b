"""Worker processes."""

from __future__ import annotations

from sqlalchemy import (
    Executable,
    bindparam,
    delete,
    insert,
    update,
)

from statejobs.store.statements.conditions import database_time
from statejobs.store.tables import (
    nodes,
)


def insert_node() -> Executable:
    """Register a worker process."""
    return insert(nodes)


def beat_node(dialect: str) -> Executable:
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


def delete_node() -> Executable:
    """Remove a worker process that stops."""
    return delete(nodes).where(nodes.c.id == bindparam("node_id"))


def delete_silent_nodes() -> Executable:
    """Forget worker processes that have been silent since *before*."""
    return delete(nodes).where(nodes.c.beat_at < bindparam("before", type_=nodes.c.beat_at.type))
