"""Gives back the steps of records that a rollback makes new again: their next flush writes them."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.orm.attributes import set_committed_value

from statejobs.record.ledger import Ledger, Step, ledger_of
from statejobs.record.model import ResourceModel
from statejobs.record.move import Moved

INSERTED = "statejobs.inserted"
"""Key in `session.info` of the steps of records that its transaction has inserted."""
_Inserted = dict[Ledger, list[tuple[Step, SessionTransaction | None]]]
"""With the savepoint that each was flushed in."""


def keep_steps(session: Session, moved: Moved) -> None:
    """Remember what *moved*, which the transaction of *session* has inserted, has done."""
    inserted: _Inserted = session.info.setdefault(INSERTED, {})
    within = session.get_nested_transaction()
    inserted.setdefault(moved.ledger, []).extend((step, within) for step in moved.steps)


def restage(session: Session, record: Any) -> None:
    """A rollback made a record transient: its steps wait for its next flush."""
    if not hasattr(type(record), "__statejobs__"):
        return
    ledger = ledger_of(record)
    inserted: _Inserted = session.info.get(INSERTED, {})
    ledger.pending[:0] = [step for step, _ in inserted.pop(ledger, [])]
    if ledger.pending:
        model: ResourceModel = type(record).__statejobs__
        # An earlier rollback may have expired its state.
        set_committed_value(
            record, model.attribute, model.members[ledger.pending[-1].target]
        )


def forget_steps(session: Session, ended: SessionTransaction) -> None:
    """Forget the steps that were flushed inside *ended*, which was rolled back."""
    inserted: _Inserted = session.info.get(INSERTED, {})
    for ledger, steps in inserted.items():
        inserted[ledger] = [
            (step, within) for step, within in steps if not _is_in(within, ended)
        ]


def _is_in(inner: SessionTransaction | None, outer: SessionTransaction) -> bool:
    while inner is not None and inner is not outer:
        inner = inner.parent
    return inner is outer
