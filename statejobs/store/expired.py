"""Jobs whose lease ran out: found, locked, put aside or given up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from statejobs.domain.job import Job
from statejobs.store.rows import Expired, job_of
from statejobs.store.statements import rescue as rescue_sql
from statejobs.store.store import Store


def find_expired(
    store: Store, keys: Sequence[str], now: datetime, *, limit: int = 100, skip: int = 0
) -> list[Expired]:
    """Return processing jobs of *keys* whose lease ended before *now*, longest first.

    Args:
        store: The job tables.
        keys: Whose jobs.
        now: When.
        limit: Most of them.
        skip: How many of the first to leave out.
    """
    given = {"keys": list(keys), "now": now, "limit": limit, "skip": skip}
    with store.single() as connection:
        return [
            Expired(**row._mapping)  # noqa: SLF001 - its public name
            for row in connection.execute(_FIND, given)
        ]


def lock_expired(connection: Connection, job_id: int, now: datetime) -> Job | None:
    """Lock a job whose lease is still over; None when it is not, or someone holds it."""
    row = connection.execute(_LOCK, {"job_id": job_id, "now": now}).first()
    return None if row is None else job_of(row)


def put_aside(connection: Connection, expired: Expired, *, token: str, until: datetime) -> bool:
    """Let a job wait for its next rescue *until* then; False when someone was faster."""
    if not _lock_same(connection, expired):
        return False
    given = {"job_id": expired.id, "new_token": token, "until": until}
    connection.execute(_PUT_ASIDE, given)
    return True


def discard_stuck(connection: Connection, expired: Expired, *, why: str, now: datetime) -> bool:
    """Give a job up whose record nobody can move; False when someone was faster."""
    if not _lock_same(connection, expired):
        return False
    connection.execute(_DISCARD, {"job_id": expired.id, "why": why, "now": now})
    return True


def _lock_same(connection: Connection, expired: Expired) -> bool:
    given = {"job_id": expired.id, "held": expired.token}
    return connection.execute(_LOCK_SAME, given).first() is not None


_FIND = rescue_sql.find_expired_jobs()
_LOCK = rescue_sql.lock_expired_job()
_LOCK_SAME = rescue_sql.lock_same_claim()
_PUT_ASIDE = rescue_sql.put_aside()
_DISCARD = rescue_sql.discard_stuck_job()
