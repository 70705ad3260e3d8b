"""The channel on which PostgreSQL wakes workers."""

from __future__ import annotations

from sqlalchemy import Text, cast, func, literal_column
from sqlalchemy.sql.elements import ColumnElement


def wake_channel() -> ColumnElement[str]:
    """Return the channel of this installation: one for each schema, of 26 characters at most.

    A hash, since a schema's name may be as long as a channel's, and hold anything.
    """
    schema = cast(func.current_schema(), Text)
    digest = func.to_hex(func.hashtextextended(schema, literal_column("0")))
    return func.concat(literal_column("'statejobs_'"), digest)
