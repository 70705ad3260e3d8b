"""What new records need before their rows are written, and after."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection
from sqlalchemy.orm.attributes import set_attribute

from statejobs.record.key_types import bring_key_to_type, refuse_other_text
from statejobs.record.lives import begin_lives
from statejobs.record.move import Moved


def before_insert(moved: Moved) -> None:
    """Let it be inserted in the state, and with the count, that it reached in memory."""
    bring_key_to_type(moved.model, moved.record, moved.connection.dialect)
    with moved.ledger.writing():
        # Not setattr: a base may refuse attributes that are no fields of its own.
        set_attribute(moved.record, "state_version", moved.move.next_version)
        set_attribute(moved.record, "state_changed_at", moved.move.moved_at)


def after_insert(connection: Connection, new: Sequence[Moved], now: datetime) -> None:
    """Learn the keys, which are known now, and end what earlier records left under them."""
    for moved in new:
        refuse_other_text(moved.model, moved.record, connection.dialect)
        moved.record_id = moved.model.record_id(moved.record)
    begin_lives(connection, new, now)
