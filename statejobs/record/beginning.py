"""Where the steps of a record begin: a new one with its creation, a stored one where it rests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.orm.attributes import instance_state, set_attribute

from statejobs.errors import ProtectedStateError
from statejobs.record.ledger import Step, ledger_of, value_of
from statejobs.values.graph import DELETED

if TYPE_CHECKING:
    from statejobs.record.model import ResourceModel


def stage_creation(record: Any) -> None:
    """Give a record that was just constructed its initial state, and stage its creation."""
    model: ResourceModel = type(record).__statejobs__
    _write_state(record, model, model.state.initial)
    target = value_of(model.state.initial)
    ledger_of(record).pending.append(creation(model, target))


def creation(model: ResourceModel, target: str, *, before: Step | None = None) -> Step:
    """Return the step that creates a record in *target*; it is as old as the step *before* it."""
    promises = model.spec.promises_in(target)
    step = Step(name="create", source=None, target=target, promises=promises)
    if before is not None:
        step.at = before.at
        step.acting = before.acting
    return step


def begin_with_creation(record: Any) -> None:
    """Let a new record be created first, and its state be the one that its steps lead to.

    make_transient() constructs nothing, nor does merge() of what another database holds: these
    keep the state that they hold.
    """
    model: ResourceModel = type(record).__statejobs__
    steps = ledger_of(record).pending
    held = vars(record).get(model.attribute)
    if not steps:
        steps.append(creation(model, value_of(held or model.state.initial)))
    elif steps[0].source is not None:
        steps.insert(0, creation(model, steps[0].source, before=steps[0]))
    target = steps[-1].target
    if target != DELETED and (held is None or value_of(held) != target):
        _write_state(record, model, model.members[target])


def begin_with_a_move(record: Any) -> None:
    """Forget the creation of a stored record, as of one that was only made to look detached.

    Raises:
        ProtectedStateError: Its state would be written past its machine.
    """
    steps = ledger_of(record).pending
    while steps and steps[0].source is None:
        del steps[0]
    if not steps:
        _refuse_changes(record)


def _refuse_changes(record: Any) -> None:
    """Refuse what reached the columns of the machine past the guard of its attributes."""
    model: ResourceModel = type(record).__statejobs__
    before = instance_state(record).committed_state
    for name in (model.attribute, "state_version", "state_changed_at"):
        if name in before and before[name] != vars(record).get(name):
            raise ProtectedStateError(
                f"{name} was written past its machine, as through __dict__ or "
                "flag_modified()",
                where=model.label(record),
                why="that would skip guards, history and jobs",
                fix=(
                    "Fire a transition, or say why: with override_state(record, "
                    "reason=…)"
                ),
            )


def _write_state(record: Any, model: ResourceModel, state: Any) -> None:
    with ledger_of(record).writing():
        # Not setattr: a base may refuse attributes that are no fields of its own.
        set_attribute(record, model.attribute, state)
