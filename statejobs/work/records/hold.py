"""The records of an attempt, locked and checked where its session first writes or locks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from statejobs.runner.answers import NotWritten
from statejobs.runner.undone import UndoneError, give_back, ours
from statejobs.store.engines.lazy_begin import (
    begin_now,
    impose_limits,
    in_transaction,
    last_begun,
    lift_limits,
)
from statejobs.store.record_rows import lock_whole
from statejobs.store.records import Identity, lock_places
from statejobs.values.outcome import GiveBack, Superseded
from statejobs.work.outcomes import RecordMoved
from statejobs.work.records.hidden import moved_or_hidden
from statejobs.work.records.subject import RecordSubject, where_to


@dataclass(slots=True, eq=False)
class Hold:
    """Locks the records of an attempt before anything else that its transaction locks.

    Whoever moves one of them first, and then writes what the action writes as well, waits here for
    nobody who waits for him; and an action whose record is gone writes nothing at all.
    """

    subjects: Sequence[RecordSubject]
    outcome: Superseded | GiveBack | None = field(default=None, init=False)
    """How the attempt ends, whatever its body makes of it, when it could not be held."""
    _held: object = field(default=None, init=False)
    """What stands for the transaction that holds them."""
    _undone: UndoneError | None = field(default=None, init=False)

    def __call__(self, connection: Connection) -> None:
        """Lock and check, in the transaction that *connection* has just begun.

        Raises:
            RecordMoved: A record is no longer where its claim left it.
            UndoneError: The database could not lock them.
        """
        if self.outcome is None:
            self._look(connection)
        if self._undone is not None:
            raise self._undone
        if self.outcome is not None:
            raise RecordMoved(_words(self.outcome))
        self._held = last_begun(connection)

    def load(self, session: Session) -> None:
        """Lock, check and load the records anew, in a transaction that begins here.

        Raises:
            RecordMoved: A record is no longer where its claim left it.
            UndoneError: The database could not lock them.
        """
        try:
            with ours():
                connection = session.connection()
                begin_now(connection)
                lift_limits(connection)
                standing = load_standing(session, self.subjects)
                impose_limits(connection)
        except UndoneError as undone:
            self._note(undone)
            raise
        for subject in self.subjects:
            if subject.identity not in standing:
                self.outcome = moved_or_hidden(connection, subject)
                raise RecordMoved(_words(self.outcome))
        self._held = last_begun(connection)

    def ensure(self, connection: Connection) -> None:
        """Lock and check, unless the transaction of *connection* has done so; begin it if need be.

        Raises:
            NotWritten: A record is no longer where its claim left it.
            UndoneError: The database could not lock them.
        """
        if self.holds(connection):
            return
        with ours():
            begin_now(connection)
        try:
            self(connection)
        except RecordMoved as moved:
            raise NotWritten(Superseded(str(moved))) from None

    def holds(self, connection: Connection) -> bool:
        """Return whether the present transaction of *connection* is the one that locked them."""
        if self._held is None or not in_transaction(connection):
            return False
        return last_begun(connection) is self._held

    def _note(self, undone: UndoneError) -> None:
        self._undone = undone
        self.outcome = give_back(undone)

    def _look(self, connection: Connection) -> None:
        first = self.subjects[0]
        identities = [subject.identity for subject in self.subjects]
        try:
            with ours():
                lift_limits(connection)
                found = lock_places(
                    connection,
                    first.model.records,
                    identities,
                    for_delete=first.bound.deletes,
                )
                impose_limits(connection)
        except UndoneError as undone:
            self._note(undone)
            return
        for subject in self.subjects:
            now = found.get(subject.identity)
            if now is None:
                self.outcome = moved_or_hidden(connection, subject)
                return
            if not subject.stands(now):
                self.outcome = Superseded(where_to(subject, now[0]))
                return


def _words(ending: Superseded | GiveBack) -> str:
    return ending.reason if isinstance(ending, Superseded) else ending.failure.message


def load_standing(
    session: Session, subjects: Sequence[RecordSubject]
) -> dict[Identity, Any]:
    """Lock records, waiting for others, and load them as they are then; objects are refreshed.

    In the order of their keys, as whoever locks many. Those that were moved away are left out,
    whatever is in their columns by now.
    """
    model = subjects[0].model
    query = lock_whole(
        model.cls,
        model.records,
        [s.identity for s in subjects],
        {s.state for s in subjects} if subjects[0].bound.targets else {*model.members},
        dialect=session.connection().dialect.name,
        has_eager=bool(model.eager_relations),
        for_delete=subjects[0].bound.deletes,
    )
    key_of = model.mapper.primary_key_from_instance
    state_of = model.kernel.state_of
    loaded = {
        tuple(key_of(record)): record for record in session.scalars(query).unique()
    }
    left = {subject.identity: subject for subject in subjects}
    return {
        identity: record
        for identity, record in loaded.items()
        if left[identity].stands((state_of(record), record.state_version))
    }
