"""Lands records: moves each to where the end of its attempt leads, by compare-and-set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Column, Connection, Update, bindparam

from statejobs.store.arrays import can_be_given
from statejobs.store.following import FollowUp
from statejobs.store.history import HistoryRow
from statejobs.store.records import (
    RecordMove,
    RecordTable,
    given_columns,
    given_rows,
    is_place_of,
    lock_place,
    move_each,
    move_given,
    move_parameters,
    stays_as_given,
)
from statejobs.store.types import UtcDateTime


class Move(RecordMove, frozen=True, kw_only=True):
    """The move of a record with the end of an attempt, and what goes with it."""

    records: RecordTable
    changes: Mapping[Column[Any], Any]
    """Columns of its own that are written with the move."""
    at: datetime
    history: HistoryRow | None
    """What is told of it; None also when there is nothing to tell."""
    rests: bool
    """Whether it then waits in a source of its action."""
    is_deleted: bool = False
    """Whether a flush has deleted it already."""
    follow_up: FollowUp | None = None
    """Other jobs that begin or end with it."""

    @property
    def columns(self) -> tuple[Column[Any], ...]:
        """The columns that are written with it."""
        return tuple(self.changes)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of `move_each`."""
        return move_parameters(self.records, self, [*self.changes.values()])


def land(connection: Connection, move: Move) -> bool:
    """Make *move*; return whether the record was where it says.

    One that changes nothing only locks the record. A database may leave out an UPDATE that
    writes what is there (`suppress_redundant_updates_trigger`), and then nothing is lost.
    """
    if move.is_deleted:
        return True
    place = (move.was, move.version)
    stays = move.was == move.becomes
    if stays and not move.changes and move.history is None:
        return lock_place(connection, move.records, move.identity) == place
    statement = move_each(move.records, move.columns)
    if connection.execute(statement, move.parameters()).rowcount == 1:
        return True
    return stays and is_place_of(
        connection, move.records, move.identity, place, move.changes
    )


def land_all(connection: Connection, moves: Sequence[Move]) -> bool:
    """Make *moves*, with one call for those that share a statement; return whether all landed."""
    if len(moves) == 1:
        return land(connection, moves[0])
    by_statement: dict[object, list[Move]] = {}
    for move in moves:
        if not move.is_deleted:
            alike = (id(move.records), move.becomes, move.columns)
            by_statement.setdefault(alike, []).append(move)
    return all(_land_alike(connection, group) for group in by_statement.values())


def given_moves(moves: Sequence[Move]) -> dict[str, list[Any]]:
    """Return the arrays of `given_columns` for *moves* that share a statement."""
    first = moves[0]
    return {
        **{
            f"given_pk_{n}": [m.identity[n] for m in moves]
            for n in range(len(first.identity))
        },
        "given_was": [move.was for move in moves],
        "given_version": [move.version for move in moves],
        **{
            f"given_c_{n}": [move.changes[column] for move in moves]
            for n, column in enumerate(first.columns)
        },
    }


def _land_alike(connection: Connection, moves: Sequence[Move]) -> bool:
    records = moves[0].records
    columns = moves[0].columns
    has_arrays = connection.dialect.name == "postgresql"
    if has_arrays and all(map(can_be_given, (*records.keys, *columns))):
        given = {
            **given_moves(moves),
            "becomes": moves[0].becomes,
            "moved_at": moves[0].at,
        }
        found = connection.execute(
            _move_given(records, columns), records.names.of(given)
        )
    else:
        rows = [move.parameters() for move in moves]
        found = connection.execute(move_each(records, columns), rows)
    return found.rowcount == len(moves)


@lru_cache(maxsize=1024)
def _move_given(records: RecordTable, changed: tuple[Column[Any], ...]) -> Update:
    names = records.names
    given = given_rows(given_columns(records, changed), names)
    at = bindparam(names["moved_at"], type_=UtcDateTime)
    target = bindparam(names["becomes"], type_=records.state.type)
    move = move_given(records, given, changed, target=target, at=at)
    return move.where(stays_as_given(records, given))
