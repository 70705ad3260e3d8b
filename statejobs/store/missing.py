"""Says of a statement that met no table of ours what makes the tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from statejobs.errors import SchemaError
from statejobs.store.engines.addresses import shown_url
from statejobs.store.faults import sqlstate_of

HOW_TO_MAKE_TABLES = (
    "Make them with `statejobs db upgrade`; "
    "for SQLite, demos and tests, jobs.create_all() does too"
)
_UNDEFINED_TABLE = "42P01"
_OURS = "statejobs_"


@contextmanager
def explain_missing_tables(connection: Connection) -> Iterator[None]:
    """Raise `SchemaError` from an error of the database that names a table of ours as missing."""
    try:
        yield
    except DBAPIError as error:
        refuse_missing_table(connection, error)
        raise


def refuse_missing_table(connection: Connection, error: DBAPIError) -> None:
    """Raise `SchemaError` from *error* if it names a table of ours as missing."""
    if not _lacks_our_table(error):
        return
    name = shown_url(connection.engine.url)
    reason = str(error.orig).strip().splitlines()[0]
    raise SchemaError(
        f"{name} lacks tables of statejobs ({reason})",
        fix=HOW_TO_MAKE_TABLES,
    ) from error


def _lacks_our_table(error: DBAPIError) -> bool:
    reason = str(error.orig)
    is_missing = sqlstate_of(error) == _UNDEFINED_TABLE or "no such table" in reason
    return is_missing and _OURS in reason
