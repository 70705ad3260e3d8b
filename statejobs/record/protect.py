"""The state of a record changes through its machine, or in the open."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from reprlib import repr as short
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.orm import class_mapper
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.orm.base import LoaderCallableStatus

from statejobs.errors import ProtectedStateError, WrongValueError, did_you_mean
from statejobs.record.beginning import stage_creation
from statejobs.record.ledger import Ledger, Step, ledger_of, time_of, value_of
from statejobs.record.merging import Carried
from statejobs.values.text import REASON_LIMIT, clean_text

if TYPE_CHECKING:
    from statejobs.record.model import ResourceModel


def start_in_initial_state(record: Any, _args: Any, kwargs: dict[str, Any]) -> None:
    """Give a new record its initial state at construction, and stage its creation."""
    # configures it: of a subclass, this may be the first instance
    class_mapper(type(record))
    model: ResourceModel = type(record).__statejobs__
    _ = model.mapper  # configured now: SQLModel maps after we listen
    if model.attribute in kwargs:
        raise ProtectedStateError(
            f"a new record starts in {value_of(model.state.initial)!r}",
            where=f"{type(record).__name__}({model.attribute}=…)",
            fix=(
                "leave it out, then fire a transition. In tests and imports: "
                "with override_state(record, reason=…)"
            ),
        )
    stage_creation(record)


def protect_state(attribute: Any) -> None:
    """Refuse assignments to *attribute* that do not come from the machine."""
    event.listen(attribute, "set", _assign_state, retval=True, active_history=True)
    event.listen(attribute, "remove", _refuse_removal)


def protect_count(attribute: Any) -> None:
    """Refuse assignments to *attribute*, which counts or dates the transitions."""

    def refuse(record: Any, value: Any, old: Any, _initiator: Any) -> None:
        if ledger_of(record).may_write or _is_unchanged(value, old):
            return
        label = type(record).__statejobs__.label(record)
        raise ProtectedStateError(
            f"{attribute.key} is kept by statejobs",
            where=label,
            why="it tells racing transitions apart",
        )

    event.listen(attribute, "set", refuse, active_history=True)


def drop_pending(record: Any, attributes: Any) -> None:
    """Forget steps that were not flushed, since their state was just thrown away."""
    if record is None:
        return  # only the session held it: a rollback lets go of it, and then tells us
    model: ResourceModel = type(record).__statejobs__
    if attributes is None or model.attribute in attributes:
        ledger_of(record).pending.clear()


@contextmanager
def override_state(record: Any, *, reason: str) -> Iterator[None]:
    """Allow assigning the state of *record* inside; logged in its history with *reason*.

    For imports, repairs and tests. A state that promises a job gets one, and leaving such a state
    cancels its job, so that the record and its jobs still agree.

    Raises:
        WrongValueError: *reason* is empty, or *record* is none.
    """
    if not hasattr(type(record), "__statejobs__"):
        raise WrongValueError(
            f"override_state() takes a record of a resource, not {short(record)}",
            fix='say override_state(order, reason="…")',
        )
    reason = clean_text(reason, REASON_LIMIT)
    if not reason.strip():
        raise WrongValueError(
            "say why, for those who read the history",
            where="override_state",
        )
    ledger = ledger_of(record)
    before = ledger.reason
    ledger.reason = reason
    try:
        yield
    finally:
        ledger.reason = before


def _assign_state(record: Any, value: Any, old: Any, _initiator: Any) -> Any:
    """Let the machine assign, take what is merged, stage an override, refuse the rest."""
    if isinstance(value, Carried):
        value = _take(record, value)
    ledger = ledger_of(record)
    if not ledger.may_write:
        _refuse_or_stage(record, ledger, value, old)
    return value


def _take(record: Any, carried: Carried) -> enum.Enum:
    """Let a new record have made the steps of the one that is merged into it."""
    model: ResourceModel = type(record).__statejobs__
    pending = ledger_of(record).pending
    if instance_state(record).key is None and not pending:
        pending.extend(replace(step) for step in carried.steps)
    return model.members[carried.steps[-1].target]


def _refuse_or_stage(record: Any, ledger: Ledger, value: Any, old: Any) -> None:
    if ledger.pending:  # __dict__ may hold another: pydantic validates straight into it
        old = ledger.pending[-1].target
        if value_of(value) == old:
            return
    elif _is_unchanged(value, old):
        return
    model: ResourceModel = type(record).__statejobs__
    text = value.value if isinstance(value, enum.Enum) else value
    if ledger.reason is None:
        can = ", ".join(model.could_fire(record))
        ways = f" ({can})" if can else ""
        raise ProtectedStateError(
            f"{model.attribute} = {text!r} would skip guards, history and jobs",
            where=model.label(record),
            fix=(
                f"Fire a transition{ways}, or say why: "
                "with override_state(record, reason=…)"
            ),
        )
    if not isinstance(value, model.state.states):
        states = model.state.states.__name__
        raise ProtectedStateError(
            f"{model.attribute} = {text!r} is not a member of {states}",
            where=model.label(record),
            fix=did_you_mean(str(text), model.members),
        )
    ledger.pending.append(
        Step(
            name="override",
            source=value_of(old),
            target=value_of(value),
            promises=model.spec.promises_in(value_of(value)),
            reason=ledger.reason,
            at=time_of(record),
        )
    )


def _refuse_removal(record: Any, _value: Any, _initiator: Any) -> None:
    model: ResourceModel = type(record).__statejobs__
    raise ProtectedStateError(
        f"its {model.attribute} cannot be deleted",
        where=model.label(record),
        why="a record always has one",
    )


def _is_unchanged(value: object, old: object) -> bool:
    """Whether an assignment changes nothing, as when merge() copies what was loaded."""
    return value == old or isinstance(old, LoaderCallableStatus)
