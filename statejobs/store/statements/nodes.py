"""Worker processes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Executable,
    Select,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from statejobs.store.statements.conditions import database_time
from statejobs.store.tables import (
    IS_PROCESSING,
    jobs,
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


def find_declarations() -> Select[Any]:
    """Return what each worker process declares that was alive since then."""
    since = bindparam("since", type_=nodes.c.beat_at.type)
    return select(nodes.c.declares).where(nodes.c.beat_at >= since, nodes.c.declares.is_not(None))


def count_held_jobs() -> Select[Any]:
    """Count the processing jobs of a worker process."""
    held = (IS_PROCESSING, jobs.c.owner == bindparam("by"))
    return select(func.count()).select_from(jobs).where(*held)


def delete_node() -> Executable:
    """Remove a worker process that stops."""
    return delete(nodes).where(nodes.c.id == bindparam("node_id"))


def delete_silent_nodes() -> Executable:
    """Forget worker processes that have been silent since *before*."""
    return delete(nodes).where(nodes.c.beat_at < bindparam("before", type_=nodes.c.beat_at.type))
