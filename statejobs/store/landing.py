"""Lands records: moves each to where the end of its attempt leads, by compare-and-set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

import msgspec
from sqlalchemy import Column, Connection

from statejobs.store.history import HistoryRow
from statejobs.store.records import (
    Identity,
    RecordMove,
    RecordTable,
    is_place_of,
    lock_place,
    move_each,
    move_parameters,
)


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """Where a record is, and where it goes with the end of an attempt."""

    records: RecordTable
    identity: Identity
    was: str
    version: int
    becomes: str
    changes: Mapping[Column[Any], Any]
    """Columns of its own that are written with the move."""
    at: datetime
    history: HistoryRow | None
    """What is told of it; None also when there is nothing to tell."""
    rests: bool
    """Whether it then waits in a source of its action."""
    is_deleted: bool = False
    """Whether a flush has deleted it already."""
    ends: Mapping[str, str] = {}
    """Other jobs that end with it: what names them → why."""

    @property
    def stays(self) -> bool:
        """Whether it keeps its state, and so its version."""
        return self.was == self.becomes

    @property
    def columns(self) -> tuple[Column[Any], ...]:
        """The columns that are written with it."""
        return tuple(self.changes)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of `move_each`."""
        move = RecordMove(
            identity=self.identity,
            was=self.was,
            version=self.version,
            becomes=self.becomes,
            next_version=self.version if self.stays else self.version + 1,
            moved_at=None if self.stays else self.at,
        )
        return move_parameters(self.records, move, [*self.changes.values()])


def land(connection: Connection, move: Move) -> bool:
    """Make *move*; return whether the record was where it says.

    One that changes nothing only locks the record. A database may leave out an UPDATE that
    writes what is there (`suppress_redundant_updates_trigger`), and then nothing is lost.
    """
    if move.is_deleted:
        return True
    place = (move.was, move.version)
    if move.stays and not move.changes and move.history is None:
        return lock_place(connection, move.records, move.identity) == place
    statement = move_each(move.records, move.columns)
    if connection.execute(statement, move.parameters()).rowcount == 1:
        return True
    return move.stays and is_place_of(connection, move.records, move.identity, place, move.changes)


def land_all(connection: Connection, moves: Sequence[Move]) -> bool:
    """Make *moves*, with one call for those that share a statement; return whether all landed."""
    if len(moves) == 1:
        return land(connection, moves[0])
    for _, found in groupby(sorted(moves, key=_statement_of), key=_statement_of):
        alike = list(found)
        if alike[0].is_deleted:
            continue
        statement = move_each(alike[0].records, alike[0].columns)
        rows = [move.parameters() for move in alike]
        if connection.execute(statement, rows).rowcount != len(rows):
            return False
    return True


def _statement_of(move: Move) -> tuple[int, tuple[str, ...]]:
    return id(move.records), tuple(column.name for column in move.changes)
