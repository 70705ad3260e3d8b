"""Jobs whose lease ran out: found, locked, put aside or given up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection

from statejobs.store.rows import Expired, job_of
from statejobs.store.statements import rescue as rescue_sql
from statejobs.store.store import Store
from statejobs.values.job import Job


def find_expired(
    store: Store,
    keys: Sequence[str],
    now: datetime,
    *,
    lease: timedelta,
    limit: int = 100,
    skip: int = 0,
) -> list[Expired]:
    """Return processing jobs of *keys* that their nodes have left, longest first.

    Their lease ended before *now*, and their node has not beaten for a *lease*; or it beats, and
    has not renewed them for three.

    Args:
        store: The job tables.
        keys: Whose jobs.
        now: When.
        lease: How long a claim holds.
        limit: Most of them.
        skip: How many of the first to leave out.
    """
    given = {"keys": list(keys), "limit": limit, "skip": skip, **_times(now, lease)}
    with store.unwaiting() as connection:
        return [
            Expired(**row._mapping)  # noqa: SLF001 - its public name
            for row in connection.execute(_FIND, given)
        ]


def lock_expired(
    connection: Connection, job_id: int, now: datetime, *, lease: timedelta
) -> Job | None:
    """Lock a job that its node has left still; None when it has not, or someone holds it."""
    row = connection.execute(_LOCK, {"job_id": job_id, **_times(now, lease)}).first()
    return None if row is None else job_of(row)


def put_aside(
    connection: Connection,
    expired: Expired,
    *,
    token: str,
    until: datetime,
    why: str,
    is_crash: bool,
    counts: bool,
    waits: bool = False,
) -> bool:
    """Let a job wait for its next rescue *until* then; False when someone was faster.

    Args:
        connection: With the transaction.
        expired: As it was seen.
        token: A new one, which keeps its worker out.
        until: When its record is tried to be moved again.
        why: What met the move of its record.
        is_crash: Whether that counts as a crash.
        counts: Whether the attempt counts; the rescue that brings it back gives one back.
        waits: Whether to wait for whoever has locked it.
    """
    if not _lock_same(connection, expired, waits=waits):
        return False
    given = {
        "job_id": expired.id,
        "new_token": token,
        "until": until,
        "why": why,
        "crashed": int(is_crash),
        "counted": int(counts),
    }
    connection.execute(_PUT_ASIDE, given)
    return True


def discard_stuck(
    connection: Connection,
    expired: Expired,
    *,
    why: str,
    now: datetime,
    is_crash: bool,
    waits: bool = False,
) -> bool:
    """Give a job up whose record nobody can move; False when someone was faster."""
    if not _lock_same(connection, expired, waits=waits):
        return False
    given = {"job_id": expired.id, "why": why, "now": now, "crashed": int(is_crash)}
    connection.execute(_DISCARD, given)
    return True


def find_running(connection: Connection, dedupe_keys: Sequence[str]) -> int | None:
    """Return the id of a processing job with one of *dedupe_keys*."""
    found: int | None = connection.scalar(_RUNNING, {"dedupe_keys": list(dedupe_keys)})
    return found


def _lock_same(connection: Connection, expired: Expired, *, waits: bool) -> bool:
    given = {"job_id": expired.id, "held": expired.token}
    return connection.execute(_LOCK_SAME[waits], given).first() is not None


def _times(now: datetime, lease: timedelta) -> dict[str, datetime]:
    return {"now": now, "beats_since": now - lease, "long_ago": now - 2 * lease}


_FIND = rescue_sql.find_expired_jobs()
_LOCK = rescue_sql.lock_expired_job()
_LOCK_SAME = {waits: rescue_sql.lock_same_claim(waits=waits) for waits in (False, True)}
_PUT_ASIDE = rescue_sql.put_aside()
_DISCARD = rescue_sql.discard_stuck_job()
_RUNNING = rescue_sql.find_running_job()
