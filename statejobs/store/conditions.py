"""Conditions that statements share."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import (
    BindParameter,
    FromClause,
    Integer,
    LargeBinary,
    Text,
    and_,
    any_,
    bindparam,
    case,
    cast,
    func,
    null,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.elements import ColumnElement

from statejobs.store.tables import (
    LARGEST_COUNT,
    jobs,
    literal_state,
    unindexed,
)
from statejobs.store.types import UtcDateTime
from statejobs.values.job import JobState

KEYS: BindParameter[str] = bindparam("keys", expanding=True)
"""Keys of triggers and tasks; a list is one parameter, so that every statement compiles once."""


QUEUES: BindParameter[str] = bindparam("queues", expanding=True)
"""Names of queues."""
FIRST_TIME = datetime(1, 1, 2, tzinfo=UTC)
LAST_TIME = datetime(9999, 12, 30, tzinfo=UTC)
"""What PostgreSQL stores beyond these, infinity among them, is no time in Python."""


def is_listed(column: ColumnElement[Any], dialect: str) -> ColumnElement[bool]:
    """Return whether *column* is among the parameter `ids`."""
    if dialect == "postgresql":
        # an array: the text stays the same, so it is prepared once
        return column == any_(bindparam("ids", type_=postgresql.ARRAY(column.type)))
    return column.in_(bindparam("ids", expanding=True))


def has_dedupe_key(dialect: str) -> ColumnElement[bool]:
    """Return whether one of `dedupe_keys` belongs to a job; as `listed_keys` gives them."""
    key = jobs.c.dedupe_key
    if dialect == "postgresql":
        # an array: the text stays the same, so it is prepared once
        return key == any_(bindparam("dedupe_keys", type_=postgresql.ARRAY(Text)))
    each = func.json_each(bindparam("dedupe_keys")).table_valued("value")
    return key.in_(select(each.c.value))


def listed_keys(dedupe_keys: Sequence[str], dialect: str) -> dict[str, Any]:
    """Return the parameter of `has_dedupe_key`; a list as JSON on SQLite."""
    if dialect == "postgresql":
        return {"dedupe_keys": list(dedupe_keys)}
    return {"dedupe_keys": msgspec.json.encode(list(dedupe_keys)).decode()}


KEY_ORDER = (jobs.c.key, jobs.c.priority, jobs.c.run_at, jobs.c.id)
"""The order of queued jobs of one key, said so that only the index of keys has it."""


def is_key(key: ColumnElement[str]) -> ColumnElement[bool]:
    """Return whether a job is of *key*; with `KEY_ORDER`, by the index of keys.

    Said as equality, the order by key would be dropped, and where the statistics are old the jobs
    of all keys might be read in the order of claims.
    """
    return and_(jobs.c.key >= key, jobs.c.key <= key)


STILL_PROCESSING = unindexed(jobs.c.state) == literal_state(JobState.PROCESSING)
"""For jobs whose ids or dedupe keys are given; `IS_PROCESSING` is for finding them."""


def still_in(*states: JobState) -> ColumnElement[bool]:
    """Return whether a job whose id or dedupe key is given is in one of *states*."""
    return unindexed(jobs.c.state).in_([literal_state(state) for state in states])


def database_time(dialect: str) -> ColumnElement[Any]:
    """Return the time by the database's own clock; NULL where that is the clock of ours."""
    if dialect == "postgresql":
        return func.clock_timestamp(type_=UtcDateTime)
    return null()


def is_in(*states: JobState) -> ColumnElement[bool]:
    """Return whether a job is in one of *states*."""
    return jobs.c.state.in_([literal_state(state) for state in states])


def as_bytes(text: ColumnElement[Any], dialect: str) -> ColumnElement[Any]:
    """Return text of which SQLite may hold anything, to be read without decoding it."""
    return cast(text, LargeBinary) if dialect == "sqlite" else text


def more(
    count: ColumnElement[int], by: ColumnElement[int] | int = 1
) -> ColumnElement[int]:
    """Return *count* and *by*; the largest where it is so already, or is no number on SQLite."""
    return case((count < LARGEST_COUNT, count + by), else_=LARGEST_COUNT)


def readable(rows: FromClause) -> tuple[ColumnElement[Any], ...]:
    """Return what is read of *rows* of jobs before they may be decoded."""
    numbers = (rows.c.crashes, rows.c.attempt, rows.c.max_attempts)
    return rows.c.id, rows.c.key, *(cast(number, Integer) for number in numbers)
