"""Who keeps a worker from a table."""

from __future__ import annotations

from contextlib import suppress

from statejobs.runner.blame import Blame, blame_for
from statejobs.store.faults import Fault, fault_of
from statejobs.store.locked import locked_tables
from statejobs.store.store import Store


def is_table_locked(error: BaseException) -> bool:
    """Return whether *error* says that somebody has locked a whole table, as to alter it."""
    return fault_of(error) is Fault.LOCKED and blame_for(error) is Blame.KEY


def who_has_locked(store: Store, *, of_leases: bool = False) -> str:
    """Return for people which tables are locked, and by which process of the server.

    Args:
        store: Whose tables.
        of_leases: Whether to look over a connection kept for leases: whoever waits for the table
            may have taken all the others.
    """
    tables: list[str] = []
    with suppress(Exception), store.single(of_leases=of_leases) as connection:
        tables = locked_tables(connection)
    return f"somebody has locked {', '.join(tables) or 'a table'}"
