"""Whose fault it is that a job could not be claimed, and whether two errors are the same."""

from __future__ import annotations

import re
import sqlite3
import traceback
from enum import StrEnum
from typing import assert_never

from sqlalchemy.exc import DBAPIError

from statejobs.errors import RecordHiddenError
from statejobs.store.faults import Fault, fault_of, sqlstate_of


class Blame(StrEnum):
    """Who has to do with an error of a claim."""

    EVERYONE = "everyone"
    """The database: nothing can be claimed now."""
    KEY = "key"
    """This code, or a table that somebody has locked: no job of the key can be claimed now."""
    ROLE = "role"
    """What this worker's role may see and write: another worker may take the job."""
    LOCK = "lock"
    """A lock that a trigger or a constraint of the record's table waited for: of this row, or of a
    table that all rows need. How many jobs meet it tells."""
    MOMENT = "moment"
    """Somebody else's work is in the way: the same job may go well later."""
    JOB = "job"
    """The job or its record."""


def blame_for(error: BaseException) -> Blame:
    """Return who is to blame for *error*, which a claim of several jobs or of one met."""
    if isinstance(error, RecordHiddenError) or _is_refused_by_policy(error):
        return Blame.ROLE
    match fault_of(error):
        case Fault.AWAY | Fault.READ_ONLY:
            return Blame.EVERYONE
        case Fault.CODE:
            return Blame.KEY
        case Fault.LOCKED:
            return _blame_for_lock(error)
        case Fault.TAKEN | Fault.CONFLICT | Fault.INTERRUPTED:
            return Blame.MOMENT
        case Fault.ROW | None:
            return Blame.JOB
        case other:
            assert_never(other)


def is_everyones(error: BaseException) -> bool:
    """Return whether nothing can be claimed now, by nobody's fault in particular."""
    return blame_for(error) is Blame.EVERYONE


def likeness_of(error: BaseException) -> str:
    """Return what *error* has in common with those of the same cause, whatever row they met."""
    if isinstance(error, DBAPIError):
        said = str(error.orig).partition("\n")[0]
        return f"{sqlstate_of(error)} {_VALUES.sub('?', said)}"
    place = traceback.extract_tb(error.__traceback__, limit=-1)
    where = f"{place[0].filename}:{place[0].lineno}" if place else ""
    return f"{type(error).__qualname__} {where}"


def _blame_for_lock(error: BaseException) -> Blame:
    """Tell a lock on a whole table from one on a row or a place in an index, and from others."""
    original = getattr(error, "orig", None)
    if isinstance(original, sqlite3.Error):
        return Blame.EVERYONE  # it locks all or nothing
    context: str = getattr(getattr(original, "diag", None), "context", None) or ""
    if "tuple" in context:
        return Blame.MOMENT
    return Blame.LOCK if context else Blame.KEY


def _is_refused_by_policy(error: BaseException) -> bool:
    """Return whether the policies of a table with row security let a row not be written so."""
    is_privilege = isinstance(error, DBAPIError) and sqlstate_of(error) == _NO_PRIVILEGE
    return is_privilege and "row-level security" in str(error)


_NO_PRIVILEGE = "42501"
_VALUES = re.compile(r"\d+|'[^']*'")
