"""The tables, as plain metadata: no triggers, functions or native enums, so Alembic can own them.

Fixed names; put them into a PostgreSQL schema with the engine's `search_path` or
`schema_translate_map`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    DDL,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    event,
    literal_column,
    or_,
    text,
    type_coerce,
)
from sqlalchemy.sql.elements import ColumnElement

from statejobs.store.types import BigId, CleanText, UtcDateTime
from statejobs.values.failure import MESSAGE_LIMIT, TRACEBACK_LIMIT
from statejobs.values.job import ENDED, JobOutcome, JobState
from statejobs.values.text import NAME_LIMIT, REASON_LIMIT

LARGEST_COUNT = 2**31 - 1
"""Of an `Integer` on PostgreSQL; SQLite takes more, and none of ours writes it."""

metadata = MetaData()
"""Give this to Alembic: `target_metadata = [Base.metadata, statejobs.metadata]`."""


def literal_state(state: JobState) -> ColumnElement[str]:
    """Return *state* as a literal; a bound value would not match the partial indexes."""
    return literal_column(f"'{state.value}'", String())


def literal_outcome(outcome: JobOutcome) -> ColumnElement[str]:
    """Return *outcome* as a literal: no parameter more."""
    return literal_column(f"'{outcome.value}'", String())


def unindexed(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return a text column as an expression that means the same, and that no index answers.

    For a condition on the state of rows whose ids are given. Statistics lag behind states: they may
    say that hardly any row is in one, and then a plan reads all that are, to find the few asked
    for. In a join LATERAL does not prevent that.
    """
    return type_coerce(column.concat(literal_column("''")), column.type)


jobs = Table(
    "statejobs_jobs",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("key", String(200), nullable=False),
    Column("queue", String(100), nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("run_at", UtcDateTime, nullable=False),
    Column("args", Text, nullable=False),
    Column("resource", String(200)),
    Column("record_id", Text),
    Column("record_source", String(100)),
    Column("dedupe_key", Text),
    Column("idempotency_key", String(64), nullable=False),
    Column("actor", CleanText(NAME_LIMIT)),
    Column("tenant", CleanText(NAME_LIMIT)),
    Column("tags", Text, nullable=False),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("max_attempts", Integer, nullable=False),
    Column("crashes", Integer, nullable=False, server_default=text("0")),
    Column("coalesced", Integer, nullable=False, server_default=text("0")),
    Column("run_again", Boolean, nullable=False, server_default=text("false")),
    Column("lease_until", UtcDateTime),
    Column("owner", String(64)),
    Column("token", String(64)),
    Column("cancel_requested", Boolean, nullable=False, server_default=text("false")),
    Column("progress", CleanText(NAME_LIMIT)),
    Column("checkpoint", Text),
    Column("enqueued_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("reason", CleanText(REASON_LIMIT)),
    Column("returned", Integer, nullable=False, server_default=text("0")),
    Column("meta", Text),
    Column("unique_until", UtcDateTime),
    Column("outcome", String(16)),
    Column("snoozes", Integer, nullable=False, server_default=text("0")),
    Column("result", Text),
    Column("allowance", Integer),
    Column("tick_at", UtcDateTime),
    CheckConstraint("priority BETWEEN 0 AND 9", name="ck_statejobs_jobs_priority"),
    CheckConstraint(
        "attempt >= 0 AND max_attempts > 0", name="ck_statejobs_jobs_attempt"
    ),
)

VACUUM_SOON = {
    "autovacuum_vacuum_scale_factor": "0.01",
    "autovacuum_vacuum_cost_delay": "0",
    "autovacuum_analyze_scale_factor": "0.02",
}
"""PostgreSQL: each job is updated a few times, so dead rows are cleared while they are few.

No fillfactor: the states are in the conditions of indexes, so no move of a job can be a HOT update.
"""
_SETTINGS = ", ".join(f"{name} = {value}" for name, value in VACUUM_SOON.items())
SET_VACUUM = f"ALTER TABLE %(fullname)s SET ({_SETTINGS})"
"""A statement of its own, since SQLAlchemy 2.0 has no such option of a table."""
RESET_VACUUM = f"ALTER TABLE %(fullname)s RESET ({', '.join(VACUUM_SOON)})"
_set_vacuum: DDL = DDL(SET_VACUUM)  # type: ignore[no-untyped-call]
event.listen(jobs, "after_create", _set_vacuum.execute_if(dialect="postgresql"))

IS_QUEUED = jobs.c.state == literal_state(JobState.QUEUED)
IS_WAITING_FOR_TIME = jobs.c.state.in_(
    [literal_state(JobState.SCHEDULED), literal_state(JobState.FAILED)]
)
IS_PROCESSING = jobs.c.state == literal_state(JobState.PROCESSING)
IS_OPEN = jobs.c.state != literal_state(JobState.COMPLETED)
"""Not completed: at most one such job for each trigger and record; a retry continues it."""
HOLDS_KEY = or_(IS_OPEN, jobs.c.unique_until.is_not(None))
"""No other job may have its key: it is open, or completed so recently that none may follow it."""
IS_ENDED = jobs.c.state.in_([literal_state(state) for state in ENDED])

Index(
    "ix_statejobs_jobs_claim",
    jobs.c.queue,
    jobs.c.priority,
    jobs.c.run_at,
    jobs.c.id,
    postgresql_where=IS_QUEUED,
    sqlite_where=IS_QUEUED,
)
Index(
    "ix_statejobs_jobs_keys",
    jobs.c.queue,
    jobs.c.key,
    jobs.c.priority,
    jobs.c.run_at,
    jobs.c.id,
    postgresql_where=IS_QUEUED,
    sqlite_where=IS_QUEUED,
)
Index(
    "ix_statejobs_jobs_due",
    jobs.c.run_at,
    jobs.c.queue,
    jobs.c.key,
    postgresql_where=IS_WAITING_FOR_TIME,
    sqlite_where=IS_WAITING_FOR_TIME,
)
Index(
    "ix_statejobs_jobs_lease",
    jobs.c.lease_until,
    postgresql_where=IS_PROCESSING,
    sqlite_where=IS_PROCESSING,
)
Index(
    "ix_statejobs_jobs_ended",
    jobs.c.state,
    jobs.c.finished_at,
    postgresql_where=IS_ENDED,
    sqlite_where=IS_ENDED,
)
Index(
    "uq_statejobs_jobs_dedupe",
    jobs.c.dedupe_key,
    unique=True,
    postgresql_where=HOLDS_KEY,
    sqlite_where=HOLDS_KEY,
)

attempts = Table(
    "statejobs_attempts",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("job_id", BigId, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("outcome", String(20), nullable=False),
    Column("error_type", CleanText(NAME_LIMIT)),
    Column("message", CleanText(MESSAGE_LIMIT)),
    Column("traceback", CleanText(TRACEBACK_LIMIT)),
    Column("node", String(64)),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime, nullable=False),
    Index("ix_statejobs_attempts_job", "job_id"),
)
"""One row for each attempt that did not complete."""

transitions = Table(
    "statejobs_transitions",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("resource", String(200), nullable=False),
    Column("record_id", Text, nullable=False),
    Column("name", String(200), nullable=False),
    Column("source", String(100)),
    Column("target", String(100), nullable=False),
    Column("version", Integer, nullable=False),
    Column("actor", CleanText(NAME_LIMIT)),
    Column("tenant", CleanText(NAME_LIMIT)),
    Column("job_id", BigId),
    Column("attempt", Integer),
    Column("args", Text),
    Column("reason", CleanText(REASON_LIMIT)),
    Column("duration", Float),
    Column("at", UtcDateTime, nullable=False),
    Index("ix_statejobs_transitions_record", "resource", "record_id", "id"),
)
"""The history of every record: one row for each transition."""

nodes = Table(
    "statejobs_nodes",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("host", CleanText(NAME_LIMIT), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("queues", Text, nullable=False),
    Column("version", String(40), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("beat_at", UtcDateTime, nullable=False),
    Column("clock_offset", Float),
    Column("declares", Text),
    Column("held", Text),
)
"""One row for each running worker process."""

schedules = Table(
    "statejobs_schedules",
    metadata,
    Column("key", String(200), primary_key=True),
    Column("spec", String(64), nullable=False),
    Column("next_at", UtcDateTime),
    Column("last_at", UtcDateTime),
    Column("paused_at", UtcDateTime),
    Column("paused_by", CleanText(NAME_LIMIT)),
    Column("cursor", Text),
    Index("ix_statejobs_schedules_next", "next_at"),
)
"""One row for each schedule and each timeout of states: when it is due next, and how far it is."""

ticks = Table(
    "statejobs_ticks",
    metadata,
    Column("key", String(200), primary_key=True),
    Column("at", UtcDateTime, primary_key=True),
    Column("began_at", UtcDateTime, nullable=False),
    Column("cursor", Text),
    Column("enqueued", Integer, nullable=False, server_default=text("0")),
    Column("skipped", Integer, nullable=False, server_default=text("0")),
    Column("done_at", UtcDateTime),
    Column("why", CleanText(REASON_LIMIT)),
)
"""One row for each instant of each schedule: its key is why no two nodes tick for the same."""
IS_UNDONE = ticks.c.done_at.is_(None)
Index(
    "ix_statejobs_ticks_undone",
    ticks.c.key,
    ticks.c.at,
    postgresql_where=IS_UNDONE,
    sqlite_where=IS_UNDONE,
)

VERSION_TABLE = "statejobs_version"
versions = Table(
    VERSION_TABLE,
    metadata,
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name=f"{VERSION_TABLE}_pkc"),
)
"""Alembic's own bookkeeping for `statejobs db upgrade`, listed so that a user's diff is empty."""
