"""What a new record needs before its row is written, and after."""

from __future__ import annotations

from sqlalchemy.orm.attributes import set_attribute

from statejobs.record.key_types import bring_key_to_type, refuse_other_text
from statejobs.record.move import Moved


def before_insert(moved: Moved) -> None:
    """Let it be inserted in the state, and with the count, that it reached in memory."""
    bring_key_to_type(moved.model, moved.record, moved.connection.dialect)
    with moved.ledger.writing():
        # Not setattr: a base may refuse attributes that are no fields of its own.
        set_attribute(moved.record, "state_version", moved.move.next_version)
        set_attribute(moved.record, "state_changed_at", moved.move.moved_at)


def after_insert(moved: Moved) -> None:
    """Learn its key, which is known now."""
    refuse_other_text(moved.model, moved.record, moved.connection.dialect)
    moved.record_id = moved.model.record_id(moved.record)
