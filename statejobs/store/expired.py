"""Jobs whose lease ran out: found, locked, put aside or given up."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Executable,
    Row,
    Select,
    and_,
    bindparam,
    exists,
    false,
    or_,
    select,
    update,
)
from sqlalchemy.types import NullType

from statejobs.store.conditions import KEYS, STILL_PROCESSING, as_bytes, more, readable
from statejobs.store.rows import Expired, job_of, text_of
from statejobs.store.store import Store
from statejobs.store.tables import (
    IS_OPEN,
    IS_PROCESSING,
    LARGEST_COUNT,
    jobs,
    literal_state,
    nodes,
)
from statejobs.values.job import Job, JobOutcome, JobState


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
        found = connection.execute(_find_expired_jobs(store.dialect), given)
        return [_expired(row) for row in found]


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
    reason: str,
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
        reason: What met the move of its record.
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
        "why": reason,
        "crashed": int(is_crash),
        "counted": int(counts),
    }
    connection.execute(_PUT_ASIDE, given)
    return True


def discard_stuck(
    connection: Connection,
    expired: Expired,
    *,
    reason: str,
    now: datetime,
    is_crash: bool,
    outcome: JobOutcome,
    waits: bool = False,
) -> bool:
    """Give a job up whose record nobody can move; False when someone was faster."""
    if not _lock_same(connection, expired, waits=waits):
        return False
    given = {
        "job_id": expired.id,
        "how": outcome.value,
        "why": reason,
        "now": now,
        "crashed": int(is_crash),
    }
    connection.execute(_DISCARD, given)
    return True


def find_running(connection: Connection, dedupe_keys: Sequence[str]) -> int | None:
    """Return the id of a processing job with one of *dedupe_keys*."""
    found: int | None = connection.scalar(_RUNNING, {"dedupe_keys": list(dedupe_keys)})
    return found


def _lock_same(connection: Connection, expired: Expired, *, waits: bool) -> bool:
    given = {"job_id": expired.id, "held": expired.token}
    locking = _lock_same_claim(connection.dialect.name, waits=waits)
    return connection.execute(locking, given).first() is not None


def _expired(row: Row[Any]) -> Expired:
    job_id, key, crashes, attempt, max_attempts, owner, token = tuple(row)
    return Expired(
        id=job_id,
        key=key,
        attempt=min(attempt, LARGEST_COUNT),
        max_attempts=max_attempts,
        crashes=min(crashes, LARGEST_COUNT),
        owner=text_of(owner),
        token=_known(token),
    )


def _known(token: str | bytes | None) -> str | bytes | None:
    """Return a token as text, unless it is none."""
    if isinstance(token, bytes):
        with suppress(UnicodeDecodeError):
            return token.decode()
    return token


def _times(now: datetime, lease: timedelta) -> dict[str, datetime]:
    return {"now": now, "beats_since": now - lease, "long_ago": now - 2 * lease}


def _is_abandoned(is_processing: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return whether the lease of a job ran out, and its node is silent.

    A node that beats holds the job, and somebody's lock kept it from renewing the lease; or it
    does not know of the job, and then it is waited for until the lease has been over for long.
    """
    time = jobs.c.lease_until.type
    beats = exists().where(
        nodes.c.id == jobs.c.owner,
        nodes.c.beat_at >= bindparam("beats_since", type_=nodes.c.beat_at.type),
    )
    return and_(
        is_processing,
        jobs.c.lease_until < bindparam("now", type_=time),
        or_(jobs.c.lease_until < bindparam("long_ago", type_=time), ~beats),
    )


@lru_cache(maxsize=2)
def _find_expired_jobs(dialect: str) -> Select[Any]:
    """Find, without locking, processing jobs whose lease ran out, longest first.

    Returns nothing that may have to be decoded: what one row holds must not hide the others.
    """
    claim = (as_bytes(jobs.c.owner, dialect), as_bytes(jobs.c.token, dialect))
    return (
        select(*readable(jobs), *claim)
        .where(_is_abandoned(IS_PROCESSING), jobs.c.key.in_(KEYS))
        .order_by(jobs.c.lease_until, jobs.c.id)
        .limit(bindparam("limit"))
        .offset(bindparam("skip"))
    )


def _lock_expired_job() -> Select[Any]:
    """Lock one processing job whose lease is still over, waiting for nobody."""
    return (
        select(jobs)
        .where(jobs.c.id == bindparam("job_id"), _is_abandoned(STILL_PROCESSING))
        .with_for_update(skip_locked=True, of=jobs)
    )


@lru_cache(maxsize=4)
def _lock_same_claim(dialect: str, *, waits: bool) -> Select[Any]:
    """Lock a processing job that nobody has claimed since it was looked at."""
    return (
        select(jobs.c.id)
        .where(
            jobs.c.id == bindparam("job_id"),
            STILL_PROCESSING,
            as_bytes(jobs.c.token, dialect).is_not_distinct_from(_held(dialect)),
        )
        .with_for_update(skip_locked=not waits)
    )


def _held(dialect: str) -> ColumnElement[Any]:
    """Return the token of a claim, which may be bytes on SQLite."""
    if dialect == "sqlite":
        return as_bytes(bindparam("held", type_=NullType()), dialect)
    return bindparam("held", type_=jobs.c.token.type)


def _put_aside() -> Executable:
    """Let a locked job wait for its next rescue; the new token keeps its old worker out."""
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("job_id"))
        .values(
            owner=None,
            token=bindparam("new_token"),
            lease_until=bindparam("until", type_=jobs.c.lease_until.type),
            reason=bindparam("why"),
            attempt=more(
                jobs.c.attempt, bindparam("counted", type_=jobs.c.attempt.type)
            ),
            crashes=more(
                jobs.c.crashes, bindparam("crashed", type_=jobs.c.crashes.type)
            ),
        )
    )


def _discard_stuck_job() -> Executable:
    """Give up a locked job whose record nobody can move; the record stays where it is."""
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("job_id"))
        .values(
            state=literal_state(JobState.DISCARDED),
            outcome=bindparam("how"),
            reason=bindparam("why"),
            finished_at=bindparam("now", type_=jobs.c.finished_at.type),
            crashes=more(
                jobs.c.crashes, bindparam("crashed", type_=jobs.c.crashes.type)
            ),
            run_again=false(),
            cancel_requested=false(),
            owner=None,
            token=None,
            lease_until=None,
        )
    )


def _find_running_job() -> Select[Any]:
    """Find a processing job among those with the given dedupe keys."""
    keys: BindParameter[str] = bindparam("dedupe_keys", expanding=True)
    return (
        select(jobs.c.id)
        .where(jobs.c.dedupe_key.in_(keys), IS_OPEN, STILL_PROCESSING)
        .limit(1)
    )


_LOCK = _lock_expired_job()
_PUT_ASIDE = _put_aside()
_DISCARD = _discard_stuck_job()
_RUNNING = _find_running_job()
