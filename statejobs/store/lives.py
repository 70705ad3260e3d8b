"""No job serves two records: it ends with its own, also where the next one has the same key."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy import Connection, Dialect, Row

from statejobs.store.prepared import Prepared
from statejobs.store.statements import lives as sql
from statejobs.store.statements import people as people_sql
from statejobs.values.job import WAITING, JobState

REUSED = "its record is gone, and another has its key"
DELETED = "its record was deleted"


def part_from_keys(connection: Connection, dedupe_keys: Sequence[str], now: datetime) -> None:
    """End whatever earlier records left under *dedupe_keys*; nothing goes on with it."""
    found = _lock(connection, dedupe_keys)
    if found:
        rows = [{"job_id": row.id, "why": REUSED, "now": now} for row in found]
        connection.execute(_PART, rows)


def end_with_record(connection: Connection, dedupe_keys: Sequence[str], now: datetime) -> None:
    """Cancel the waiting jobs of records that were deleted, and ask the running ones to stop."""
    found = _lock(connection, dedupe_keys)
    waiting = [row.id for row in found if row.state in WAITING]
    running = [row.id for row in found if row.state == JobState.PROCESSING]
    if waiting:
        rows = [{"job_id": job_id, "why": DELETED, "now": now} for job_id in waiting]
        connection.execute(_CANCEL, rows)
    if running:
        connection.execute(_ASK, [{"job_id": job_id, "why": DELETED} for job_id in running])


def _lock(connection: Connection, dedupe_keys: Sequence[str]) -> Sequence[Row[Any]]:
    dialect = connection.dialect
    keys: Any = list(dedupe_keys)
    given = keys if dialect.name == "postgresql" else msgspec.json.encode(keys).decode()
    return _open_jobs(dialect).execute(connection, {"dedupe_keys": given}).all()


@lru_cache(maxsize=256)
def _open_jobs(dialect: Dialect) -> Prepared:
    return Prepared(sql.lock_open_jobs(dialect.name), dialect)


_PART = sql.part_from_key()
_CANCEL = people_sql.cancel_waiting_job()
_ASK = people_sql.request_cancel()
