"""Brings records into the session in which a job is enqueued for them, if they have a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state

from statejobs.errors import TransitionRefusedError
from statejobs.record.ledger import value_of
from statejobs.store.binds import connection_for
from statejobs.store.record_rows import read_rows

if TYPE_CHECKING:
    from statejobs.record.model import ResourceModel

_AT_ONCE = 500  # keys of one query


def attach(session: Session, action: str, records: Sequence[Any]) -> None:
    """Add *records* to *session*, and flush it.

    Raises:
        TransitionRefusedError: One is deleted, here or by others: its job would have no record.
    """
    deleted = session.deleted
    for record in records:
        if record in deleted or instance_state(record).was_deleted:
            raise _refused(action, record, "it is deleted in this session.")
    detached = [record for record in records if instance_state(record).detached]
    session.add_all(records)
    session.flush()
    for record in records:
        if not instance_state(record).persistent:
            raise _refused(action, record, "this flush deleted it, as an orphan.")
    for record in _without_row(session, detached):
        raise _refused(action, record, "its row is gone.")


def _without_row(session: Session, records: Sequence[Any]) -> Iterator[Any]:
    """Return those of *records*, which no query of *session* has found, that have no row."""
    by_model: dict[ResourceModel, list[Any]] = {}
    for record in records:
        by_model.setdefault(type(record).__statejobs__, []).append(record)
    for model, group in by_model.items():
        for start in range(0, len(group), _AT_ONCE):
            yield from _missing(session, model, group[start : start + _AT_ONCE])


def _missing(
    session: Session, model: ResourceModel, records: Sequence[Any]
) -> Iterator[Any]:
    by_key = {_identity(record): record for record in records}
    connection = connection_for(session, model.mapper)
    rows = read_rows(connection, model.records, list(by_key))
    if len(rows) < len(by_key):  # else a key is only written in another way
        yield from (record for key, record in by_key.items() if key not in rows)


def _identity(record: Any) -> tuple[Any, ...]:
    key: Any = instance_state(record).key
    return tuple(key[1])


def _refused(action: str, record: Any, reason: str) -> TransitionRefusedError:
    model: ResourceModel = type(record).__statejobs__
    held = vars(record).get(model.attribute)  # not by getattr, which would load
    state = "unknown" if held is None else value_of(held)
    return TransitionRefusedError(
        action, record=model.label(record), state=state, reasons=[reason]
    )
