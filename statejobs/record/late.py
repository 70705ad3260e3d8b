"""What a flush refuses of records that something in it has changed past their steps."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

from sqlalchemy.orm import InstanceState, Session
from sqlalchemy.orm.attributes import instance_state

from statejobs.errors import ProtectedStateError, StateJobsError
from statejobs.record.key_types import refuse_other_key
from statejobs.record.ledger import pending_steps, value_of
from statejobs.record.model import ResourceModel
from statejobs.record.move import Moved
from statejobs.store.binds import connection_for


def keep_key(session: Session, record: Any) -> None:
    """Refuse another key of a stored record."""
    model: ResourceModel = type(record).__statejobs__
    state = instance_state(record)
    if state.key is not None and not model.key_names.isdisjoint(state.committed_state):
        refuse_other_key(model, record, connection_for(session, model.mapper).dialect)


def refuse_late_changes(
    session: Session, changed: Iterable[InstanceState[Any]], stepped: Container[int]
) -> None:
    """Refuse a key, or a state without a step, that the flush itself has written to a record.

    Args:
        session: Whose flush it is.
        changed: The states of the objects of which it wrote attributes.
        stepped: The ids of the objects whose steps were planned.
    """
    for state in changed:
        record = state.obj()
        if record is None or not hasattr(type(record), "__statejobs__"):
            continue
        keep_key(session, record)
        if id(record) not in stepped and not pending_steps(record):
            _refuse_unstepped(record, state.committed_state)


def _refuse_unstepped(record: object, before: Mapping[str, object]) -> None:
    model: ResourceModel = type(record).__statejobs__  # type: ignore[attr-defined]
    name = model.attribute
    if name in before and before[name] != vars(record).get(name):
        raise _is_unstepped(model, record)


def moved_too_late(record: object) -> StateJobsError:
    """Return the error for steps of which neither this flush knew, nor would the next know."""
    model: ResourceModel = type(record).__statejobs__  # type: ignore[attr-defined]
    name = pending_steps(record)[0].name
    return StateJobsError(
        f"{name!r} was fired while the session was flushing, or flush([…]) "
        "wrote the record along with another",
        where=model.label(record),
        why="too late to be written with it",
        fix="Fire it before the flush, not in an ORM event, and flush the whole session",
    )


def is_elsewhere(moved: Moved, found: object) -> ProtectedStateError:
    """Return the error for a record that a mapper event has put where its steps do not lead."""
    model = moved.model
    return ProtectedStateError(
        f"its {model.attribute} was set to {value_of(found)!r} while the "
        f"session was flushing, and its steps lead to {moved.state!r}",
        where=model.label(moved.record),
        fix="Fire a transition before the flush, not in a mapper event",
    )


def _is_unstepped(model: ResourceModel, record: object) -> ProtectedStateError:
    """Return the error for a record to which a mapper event wrote a state that it never took."""
    return ProtectedStateError(
        f"its {model.attribute} was written while the session was flushing, and "
        "no step led there",
        where=model.label(record),
        fix="Fire a transition before the flush, not in a mapper event",
    )
