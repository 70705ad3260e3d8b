"""The state of a record changes through its machine, or in the open."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.orm import ORMExecuteState
from sqlalchemy.orm.base import LoaderCallableStatus

from statejobs.errors import ProtectedStateError
from statejobs.resource.ledger import Step, ledger_of, time_of, value_of

if TYPE_CHECKING:
    from statejobs.resource.model import ResourceModel


def start_in_initial_state(record: Any, _args: Any, kwargs: dict[str, Any]) -> None:
    """Give a new record its initial state at construction, and stage its creation."""
    model: ResourceModel = type(record).__statejobs__
    if model.attribute in kwargs:
        raise ProtectedStateError(
            f"{type(record).__name__}({model.attribute}=…): a new record starts in "
            f"{value_of(model.declaration.initial)!r}; leave it out, then fire a transition. "
            "In tests and imports: with override_state(record, reason=…)"
        )
    ledger = ledger_of(record)
    with ledger.writing():
        setattr(record, model.attribute, model.declaration.initial)
    ledger.pending.append(
        Step(
            name="create",
            source=None,
            target=value_of(model.declaration.initial),
            trigger=model.bound(model.declaration.run_trigger),
        )
    )


def protect_state(attribute: Any) -> None:
    """Refuse assignments to *attribute* that do not come from the machine."""
    event.listen(attribute, "set", _refuse_assignment, propagate=True)


def drop_pending(record: Any, attributes: Any) -> None:
    """Forget steps that were not flushed, since their state was just thrown away."""
    model: ResourceModel = type(record).__statejobs__
    if attributes is None or model.attribute in attributes:
        ledger_of(record).pending.clear()


@contextmanager
def override_state(record: Any, *, reason: str) -> Iterator[None]:
    """Allow assigning the state of *record* inside; logged in its history with *reason*.

    For imports, repairs and tests. A state that promises a job gets one, and leaving such a state
    cancels its job, so that the record and its jobs still agree.

    Raises:
        ValueError: *reason* is empty.
    """
    if not reason.strip():
        raise ValueError("override_state: say why, for those who read the history")
    model: ResourceModel = type(record).__statejobs__
    source = model.kernel.state_of(record)
    ledger = ledger_of(record)
    with ledger.writing():
        yield
    target = model.kernel.state_of(record)
    if target != source:
        ledger.pending.append(_override(model, record, source, target, reason))


def _override(model: ResourceModel, record: Any, source: str, target: str, reason: str) -> Step:
    promised = model.spec.promised_by(target)
    return Step(
        name="override",
        source=source,
        target=target,
        trigger=model.triggers[promised[0]] if promised else None,
        reason=reason,
        at=time_of(record),
    )


def refuse_bulk_update(execution: ORMExecuteState) -> None:
    """Refuse an ORM-enabled `update(…)` that sets a state past its machine."""
    if not execution.is_update or execution.bind_mapper is None:
        return
    model: ResourceModel | None = getattr(execution.bind_mapper.class_, "__statejobs__", None)
    if model is None:
        return
    column = model.mapper.columns[model.attribute]
    if column.key in _updated_names(execution) or model.attribute in _updated_names(execution):
        raise ProtectedStateError(
            f"update({model.cls.__name__}) sets {model.attribute!r}: that would skip guards, "
            "history and jobs. Fire a transition on each record instead"
        )


def _updated_names(execution: ORMExecuteState) -> set[str]:
    """Return the columns that an UPDATE sets, by values() or by parameter sets."""
    statement: Any = execution.statement
    # There is no public way to read the SET of an Update; a test holds these lines.
    pairs = [*(statement._values or {}), *_ordered(statement)]  # noqa: SLF001
    names = {str(getattr(column, "key", column)) for column in pairs}
    given = execution.parameters
    for parameters in [given] if isinstance(given, dict) else given or ():
        names.update(parameters)
    return names


def _ordered(statement: Any) -> list[Any]:
    return [column for column, _ in getattr(statement, "_ordered_values", None) or ()]


def _refuse_assignment(record: Any, value: Any, old: Any, _initiator: Any) -> None:
    if ledger_of(record).may_write:
        return
    if value is old or (isinstance(old, LoaderCallableStatus) and old is not None):
        return  # merge() copies a loaded state
    model: ResourceModel = type(record).__statejobs__
    can = ", ".join(model.kernel.available(record))
    text = value.value if isinstance(value, enum.Enum) else value
    raise ProtectedStateError(
        f"{model.label(record)}: {model.attribute} = {text!r} would skip guards, history and jobs. "
        f"Fire a transition{f' ({can})' if can else ''}, "
        "or say why: with override_state(record, reason=…)"
    )
