"""The channels of PostgreSQL: one wakes workers, the other tells one that a job is to stop."""

from __future__ import annotations

from sqlalchemy import Text, cast, func, literal_column, true
from sqlalchemy.sql.elements import ColumnElement


def wake_channel() -> ColumnElement[str]:
    """Return the channel of this installation: one for each schema, of 26 characters at most.

    A hash, since a schema's name may be as long as a channel's, and hold anything.
    """
    return _channel("statejobs_")


def cancel_channel() -> ColumnElement[str]:
    """Return the channel on which a node is told to look at its jobs; it is sent the node's id.

    Apart from the other, which is rung for every enqueue.
    """
    return _channel("statejobs_cancel_")


def tell_owner(owner: ColumnElement[str], dialect: str) -> ColumnElement[bool]:
    """Return what is true, and tells the node *owner* when the transaction commits.

    To be set by an UPDATE: it tells those nodes only whose jobs it has found, with no statement
    more. A node that is not listening sees the job at its next heartbeat.
    """
    if dialect != "postgresql":
        return true()
    to = func.coalesce(owner, literal_column("''"))
    # what the function returns is void, whose text is empty
    return cast(func.pg_notify(cancel_channel(), to), Text) == literal_column("''")


def _channel(prefix: str) -> ColumnElement[str]:
    schema = cast(func.current_schema(), Text)
    digest = func.to_hex(func.hashtextextended(schema, literal_column("0")))
    return func.concat(literal_column(f"'{prefix}'"), digest)
