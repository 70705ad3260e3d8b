"""`StatefulResource`: makes a mapped class a machine."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

from sqlalchemy import Integer, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapped, Mapper, class_mapper, mapped_column

from statejobs.declare.abstract import is_abstract
from statejobs.declare.compile import compile_resource, find_state_column
from statejobs.declare.function_checks import refuse_misfit_changes
from statejobs.declare.inheritance import refuse_concrete, refuse_unmapped_base
from statejobs.declare.names import refuse_names_of_ours
from statejobs.declare.state_column import (
    DeclaredState,
    closest_member,
    not_a_member,
)
from statejobs.declare.taken_names import refuse_taken_names
from statejobs.declare.tenant_checks import refuse_no_tenant
from statejobs.errors import (
    DefinitionError,
    ProtectedStateError,
    WrongValueError,
)
from statejobs.record.defaults import created_at
from statejobs.record.doors import RESOURCE
from statejobs.record.home import Home
from statejobs.record.key_types import refuse_key_type
from statejobs.record.ledger import ledger_of, value_of
from statejobs.record.listening import listen_to_sessions
from statejobs.record.lives import note_end
from statejobs.record.model import ResourceModel
from statejobs.record.protect import (
    drop_pending,
    protect_count,
    protect_state,
    start_in_initial_state,
)
from statejobs.record.unloaded import explain_unloaded
from statejobs.store.old_rows import OLD_ROWS, ZERO
from statejobs.store.timeout_index import index_timeouts
from statejobs.store.types import UtcDateTime
from statejobs.values.graph import MachineSpec

E = TypeVar("E", bound=enum.Enum)


class StatefulResource:
    """Mixin for a SQLAlchemy model that is a state machine.

    Put it first among the bases, and give the class one `state_column`. It adds two columns,
    `state_version` (counts transitions) and `state_changed_at`.

    Class attributes that you may set:
        __resource__: Stable name stored with jobs and history; the class's name by default.
        __history__: False writes no history.
        __tenant__: Attribute that says whose a record is; history and jobs have it.
    """

    __machine__: ClassVar[MachineSpec]
    """The graph: states, transitions, triggers, as frozen values."""
    __statejobs__: ClassVar[ResourceModel]
    __history__: ClassVar[bool]
    __resource__: ClassVar[str]
    __tenant__: ClassVar[str]

    if TYPE_CHECKING:
        state_version: Mapped[int]
        state_changed_at: Mapped[datetime | None]

    def __init_subclass__(cls, **options: Any) -> None:
        """Add the columns, let SQLAlchemy map the class, then compile its declarations."""
        if "__mapper__" in vars(cls):  # the base mapped it before it was our turn
            raise _not_first(cls)
        if is_abstract(cls):
            # what it declares is a machine of each class that is mapped
            super().__init_subclass__(**options)
            return
        found = find_state_column(cls)
        if found is None:
            super().__init_subclass__(**options)
            if "__table__" in vars(cls) or "__tablename__" in vars(cls):
                raise _no_state_column(cls)
            return
        attribute, state = found
        refuse_names_of_ours(cls)
        root = _root_of(cls)
        refuse_unmapped_base(cls, root)
        if root is cls:
            cls.state_version = mapped_column(
                Integer, insert_default=0, nullable=False, info={OLD_ROWS: ZERO}
            )
            cls.state_changed_at = mapped_column(
                UtcDateTime, nullable=True, insert_default=created_at
            )
        name = getattr(root, "__resource__", root.__name__)
        home = Home() if root is cls else root.__statejobs__.home  # type: ignore[attr-defined]
        model = compile_resource(cls, attribute, state, name=name, home=home)
        cls.__statejobs__ = model
        cls.__machine__ = model.spec
        super().__init_subclass__(**options)
        refuse_concrete(cls, root)
        # Each class for itself: `propagate=True` repeats a listener at each level of inheritance,
        # and loses it below an abstract class.
        event.listen(cls, "init", start_in_initial_state)
        event.listen(cls, "expire", drop_pending)
        event.listen(cls, "after_delete", note_end)
        _protect(cls, attribute, is_root=root is cls)
        listen_to_sessions()

    def __copy__(self) -> NoReturn:
        """Refuse a shallow copy, as of `copy.copy` and `model_copy`.

        It would share what SQLAlchemy and the machine know of the original, and be stored as it.
        """
        name = type(self).__name__
        raise ProtectedStateError(
            "a shallow copy would be the same record to SQLAlchemy and to the machine",
            where=type(self).__statejobs__.label(self),
            fix=f"Make another: {name}(…)",
        )

    @classmethod
    def possible_next_states(cls, state: E) -> tuple[E, ...]:
        """Return the states to which one move leads from *state*: a transition's, or a job's.

        Raises:
            WrongValueError: It is no state of the class.
        """
        model = cls.__statejobs__
        states = model.state.states
        if not isinstance(state, states):
            raise WrongValueError(
                not_a_member(states, state),
                where=f"{cls.__name__}.possible_next_states",
                fix=closest_member(states, state),
            )
        targets = {edge.target for edge in model.spec.leaving(value_of(state))}
        return tuple(one for one in type(state) if value_of(one) in targets)

    def available_transitions(self) -> tuple[str, ...]:
        """Return the names of the transitions that could fire now.

        Guards are asked, and permissions of who acts.
        """
        if ledger_of(self).running:
            return ()
        model = type(self).__statejobs__
        try:
            return model.available(self)
        except SQLAlchemyError as error:
            guards = [guard for t in model.transitions.values() for guard in t.guards]
            explain_unloaded(
                error, self, name="", call="available_transitions()", guards=guards
            )
            raise


def _root_of(cls: type) -> type:
    """Return the class of the hierarchy that holds the state column."""
    for base in reversed(cls.__mro__[1:]):
        if "__statejobs__" in vars(base):
            return base
    return cls


def _protect(cls: type, attribute: str, *, is_root: bool) -> None:
    """Guard the attributes that only the machine writes, now or when the mapper comes."""
    guards = {
        attribute: protect_state,
        "state_version": protect_count,
        "state_changed_at": protect_count,
    }

    def guard_one(_cls: type, name: str, instrumented: Any) -> None:
        if name in guards:
            guards[name](instrumented)

    def mark_table(mapper: Mapper[Any], _cls: type) -> None:
        refuse_no_tenant(cls.__statejobs__, dict(mapper.columns))  # type: ignore[attr-defined]
        refuse_misfit_changes(cls.__statejobs__, dict(mapper.columns))  # type: ignore[attr-defined]
        if is_root:
            _mark_table(cls, mapper.columns[attribute])
        if cls.__statejobs__.timeouts:  # type: ignore[attr-defined]
            index_timeouts(mapper.columns[attribute])

    if "__mapper__" not in vars(cls):  # SQLModel maps later
        event.listen(cls, "attribute_instrument", guard_one)
        event.listen(cls, "after_mapper_constructed", mark_table)
        return
    for name in guards:
        guard_one(cls, name, getattr(cls, name))
    mark_table(class_mapper(cls, configure=False), cls)


def _mark_table(cls: type, state: Any) -> None:
    """Let the table of the *state* column say whose it is, once its names are found good."""
    refuse_taken_names(cls.__name__, state)
    state.info[RESOURCE] = cls.__statejobs__  # type: ignore[attr-defined]
    for key in state.table.primary_key:
        refuse_key_type(cls, key)


def _not_first(cls: type) -> DefinitionError:
    others = [base.__name__ for base in cls.__bases__ if base is not StatefulResource]
    return DefinitionError(
        cls.__name__,
        "StatefulResource is not the first of its bases",
        why="SQLAlchemy mapped the class before its states and transitions could be read",
        fix=f"put StatefulResource first: class {cls.__name__}"
        f"({', '.join(['StatefulResource', *others])})",
    )


def _no_state_column(cls: type) -> DefinitionError:
    table: Any = getattr(cls, "__table__", None)
    hidden = [
        c.name
        for c in getattr(table, "columns", ())
        if isinstance(c.type, DeclaredState)
    ]
    if hidden:
        return DefinitionError(
            cls.__name__,
            f"its state column {hidden[0]!r} is behind a @declared_attr or in a __table__",
            why="the machine is made before SQLAlchemy maps the class and calls for its columns",
            fix="write it as an attribute, on a mixin too, where each class gets its own: "
            f"{hidden[0]}: Mapped[MyState] = state_column(MyState, initial=MyState.DRAFT)",
        )
    return DefinitionError(
        cls.__name__,
        "is a StatefulResource without a state column",
        why="the machine needs to know its states and where records start",
        fix="add `state: Mapped[MyState] = state_column(MyState, initial=MyState.DRAFT)`",
    )
