"""Which libraries, how they are installed, and how to see that their jobs are finished."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One library."""

    name: str
    packages: tuple[str, ...]
    open_jobs: str = ""
    """SQL that counts the jobs that are not finished in the store."""
    open_keys: tuple[str, ...] = ()
    """The same as commands to Redis, whose numbers add up."""
    settings: str = ""
    """The best of what its documentation offers here, as measured."""
    python: tuple[int, int] = (3, 11)
    is_sqlite: bool = False
    needs: str | None = None
    """A program without which it cannot run."""


_COMMON = ("sqlalchemy[asyncio]>=2.0.43", "psycopg[binary]>=3.2", "asyncpg>=0.30")

PEERS = (
    Peer(
        name="oban",
        packages=("oban", *_COMMON),
        python=(3, 12),
        open_jobs="SELECT count(*) FROM oban_jobs WHERE state <> 'completed'",
        settings="limit 10 (W4) and 50 (W3)",
    ),
    Peer(
        name="procrastinate",
        packages=("procrastinate", *_COMMON),
        open_jobs="SELECT count(*) FROM procrastinate_jobs WHERE status <> 'succeeded'",
        settings="concurrency 5",
    ),
    Peer(
        name="pgqueuer",
        packages=("pgqueuer[asyncpg]", "uvloop", *_COMMON),
        open_jobs="SELECT count(*) FROM pgqueuer",
        settings="asyncpg pool of 20, uvloop, batch 20 (W4) and 100 (W3)",
    ),
    Peer(
        name="chancy",
        packages=("chancy", *_COMMON),
        open_jobs="SELECT count(*) FROM chancy_jobs WHERE state <> 'succeeded'",
        settings="asyncio executor, eager polling, concurrency 20 (W4) and 100 (W3)",
    ),
    Peer(
        name="huey",
        packages=("huey", *_COMMON),
        is_sqlite=True,
        open_jobs="SELECT count(*) FROM task",
        settings="SQLite with fsync, one thread, max_delay 0.1 s; at most once",
    ),
    Peer(
        name="celery",
        packages=("celery[redis]", *_COMMON),
        needs="redis-server",
        open_keys=("LLEN orders", "HLEN unacked"),
        settings="prefork, late acknowledgement, prefetch 10, Redis that flushes each command",
    ),
    Peer(
        name="dramatiq",
        packages=("dramatiq[redis]", *_COMMON),
        needs="redis-server",
        open_keys=("HLEN dramatiq:orders.msgs",),
        settings="8 threads, Redis that flushes each command",
    ),
)
