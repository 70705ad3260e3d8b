"""Tells a lost race between transactions from other errors of the database."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

_CONFLICTS = {"40001", "40P01"}  # serialization failure, deadlock


def is_conflict(error: DBAPIError) -> bool:
    """Return whether PostgreSQL ended the statement because another transaction was in its way."""
    return getattr(error.orig, "sqlstate", None) in _CONFLICTS
