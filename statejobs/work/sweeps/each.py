"""Fires a timeout through the ORM on records that are due, where SQL alone cannot."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from statejobs.errors import StaleTransitionError
from statejobs.record.firing import BoundTransition
from statejobs.record.identity import encode_identity
from statejobs.record.ledger import value_of
from statejobs.record.timeouts import StateTimeout
from statejobs.runner.blame import Blame, blame_for, likeness_of
from statejobs.runner.halves import in_halves
from statejobs.store.faults import Fault, fault_of
from statejobs.store.record_rows import lock_whole
from statejobs.store.records import Identity
from statejobs.store.timeouts import DueRange

log = logging.getLogger("statejobs.sweep")

AT_ONCE = 100
"""Records of one transaction."""


@dataclass(frozen=True, kw_only=True)
class Each:
    """Fires timeouts on a hundred records in a transaction, and leaves out whoever raises."""

    open_session: Callable[[], Session]
    dialect: str
    told: set[str] = field(default_factory=set)
    """What was told already of those who raise: they do so again at each sweep."""

    def fire(
        self,
        timeout: StateTimeout,
        stretch: DueRange,
        identities: Sequence[Identity],
    ) -> int:
        """Fire *timeout* on those that nobody holds, are there still, and may.

        Returns:
            How many moved.
        """
        moved = 0

        def act(part: Sequence[Identity]) -> None:
            nonlocal moved
            moved += self._fire(timeout, stretch, part)

        def is_left(part: Sequence[Identity], error: Exception) -> bool:
            return self._is_left(timeout, stretch, part, error)

        in_halves(identities, act, is_left, whole_first=True)
        return moved

    def _fire(
        self,
        timeout: StateTimeout,
        stretch: DueRange,
        identities: Sequence[Identity],
    ) -> int:
        fired = 0
        with self.open_session() as session, session.begin():
            for record in self._lock(session, timeout, stretch, identities):
                since = record.state_changed_at
                if since is None or since > stretch.until or not timeout.is_of(record):
                    continue
                transition = BoundTransition[[], object](timeout.declared, record)
                if transition.can():
                    transition()
                    fired += 1
        return fired

    def _lock(
        self,
        session: Session,
        timeout: StateTimeout,
        stretch: DueRange,
        identities: Sequence[Identity],
    ) -> Sequence[Any]:
        """Load and lock those that nobody holds and that are where they were."""
        model = timeout.model
        locked = lock_whole(
            model.cls,
            model.records,
            identities,
            [value_of(stretch.source)],
            dialect=self.dialect,
            has_eager=bool(model.eager_relations),
            for_delete=False,
            skip_locked=True,
        )
        return session.scalars(locked).all()

    def _is_left(
        self,
        timeout: StateTimeout,
        stretch: DueRange,
        part: Sequence[Identity],
        error: Exception,
    ) -> bool:
        """Return whether *part* is left where it is, until the next sweep.

        Raises:
            Exception: It concerns everyone.
        """
        if len(part) > 1:
            return False
        blame = blame_for(error)
        is_general = blame in {Blame.EVERYONE, Blame.KEY}
        if is_general and not self._can_lock(timeout, stretch, part):
            raise error
        is_passing = blame is Blame.MOMENT and fault_of(error) is not Fault.TAKEN
        if not (is_passing or isinstance(error, StaleTransitionError)):
            self._tell(timeout, part[0], error)
        return True

    def _can_lock(
        self,
        timeout: StateTimeout,
        stretch: DueRange,
        part: Sequence[Identity],
    ) -> bool:
        """Return whether the table can be used, so that it is the body that cannot be run."""
        try:
            with self.open_session() as session, session.begin():
                self._lock(session, timeout, stretch, part)
        except SQLAlchemyError:
            return False
        return True

    def _tell(
        self, timeout: StateTimeout, identity: Identity, error: Exception
    ) -> None:
        likeness = f"{timeout.key} {likeness_of(error)}"
        if likeness in self.told:
            return
        self.told.add(likeness)
        name = f"{timeout.model.cls.__name__} {encode_identity(identity)}"
        log.error("%s leaves %s where it is", timeout.key, name, exc_info=error)
