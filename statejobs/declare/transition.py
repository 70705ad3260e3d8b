"""`@transition`: a named move of a record, as a method."""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Coroutine, Sequence
from datetime import timedelta
from functools import update_wrapper
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypeVar,
    overload,
)

from statejobs.declare.every_source import names_every, resolved
from statejobs.declare.methods import check_method
from statejobs.declare.names import as_tuple, refuse_second_definition
from statejobs.declare.run_trigger import RunTrigger, promises_of
from statejobs.declare.timeout_checks import checked_after
from statejobs.declare.transition_on_class import TransitionOnClass
from statejobs.record.change import Change
from statejobs.record.firing import BoundTransition
from statejobs.record.specs import (
    GuardFunction,
    PermissionFunction,
    TransitionSpec,
    short_name,
)
from statejobs.values.known_options import explain_options

R = TypeVar("R")
P = ParamSpec("P")
T = TypeVar("T")


class Transition(Generic[R, P, T]):
    """A declared transition; on a record it is a method, on the class a description."""

    def __init__(
        self, body: Callable[Concatenate[R, P], T], spec: TransitionSpec
    ) -> None:
        self.spec = spec
        self._depends_on_class = names_every(spec)
        update_wrapper(self, body)  # type: ignore[arg-type]

    @overload
    def __get__(self, record: None, owner: type[R]) -> TransitionOnClass[R]: ...
    @overload
    def __get__(self, record: R, owner: type) -> BoundTransition[P, T]: ...
    def __get__(
        self, record: R | None, owner: type
    ) -> TransitionOnClass[R] | BoundTransition[P, T]:
        """Return what was declared on the class, the callable on a record."""
        spec = self.spec
        if self._depends_on_class:
            spec = resolved(spec, owner)
        if record is None:
            return TransitionOnClass(spec, owner)
        return BoundTransition(spec, record)

    def __repr__(self) -> str:
        return repr(self.spec)


if TYPE_CHECKING:

    class _Nameless: ...

    class ReturningSelf(Transition[Any, P, Any], Generic[P]):
        """A transition whose body returns the record, as type checkers see it."""

        @overload
        def __get__(self, record: None, owner: type[R]) -> TransitionOnClass[R]: ...
        @overload
        def __get__(self, record: R, owner: type) -> BoundTransition[P, R]: ...
        def __get__(self, record: Any, owner: type) -> Any: ...

    class AwaitingSelf(Transition[Any, P, Any], Generic[P]):
        """The same of an `async def` body."""

        @overload
        def __get__(self, record: None, owner: type[R]) -> TransitionOnClass[R]: ...
        @overload
        def __get__(
            self, record: R, owner: type
        ) -> BoundTransition[P, Coroutine[Any, Any, R]]: ...
        def __get__(self, record: Any, owner: type) -> Any: ...

    class _Declare(Protocol):
        """What `transition` returns: it makes of a method a transition."""

        # Nothing but Any fits what nobody else can name: it would fit whatever follows as well.
        @overload
        def __call__(  # type: ignore[overload-overlap]
            self, body: Callable[Concatenate[R, P], _Nameless]
        ) -> Transition[R, P, Any]: ...
        # mypy finds no type for a body that returns Self, unless told that it is the record's.
        @overload
        def __call__(
            self, body: Callable[Concatenate[R, P], R]
        ) -> ReturningSelf[P]: ...
        @overload
        def __call__(
            self, body: Callable[Concatenate[R, P], Coroutine[Any, Any, R]]
        ) -> AwaitingSelf[P]: ...
        @overload
        def __call__(
            self, body: Callable[Concatenate[R, P], T]
        ) -> Transition[R, P, T]: ...


@explain_options()
def transition(
    source: enum.Enum | Literal["*"] | Collection[enum.Enum | Literal["*"]],
    target: enum.Enum,
    *,
    guard: GuardFunction | Sequence[GuardFunction] | None = None,
    allow: PermissionFunction | Sequence[PermissionFunction] | None = None,
    changes: Change | Sequence[Change] = (),
    run_trigger: RunTrigger | None = None,
    after: timedelta | None = None,
) -> _Declare:
    """Declare that the decorated method moves its record from *source* to *target*.

    The body runs first; if it raises, state, history and jobs do not change. Attributes stay as
    the body left them: assign after whatever may raise, or roll the session back. The body may be
    `async def`, and takes whatever parameters the caller shall give.

    Args:
        source: State or states from which it may fire. `"*"` is every state but final and
            deprecated ones, the target, and those in which jobs run: name these beside it.
        target: State to which it leads.
        guard: Predicates of the record that must hold; the first line of a guard's docstring is
            the reason shown when it refuses.
        allow: Permissions: predicates of the record and of who acts, or None when nobody was named.
            Jobs are not asked.
        changes: Reusable changes, made after the body, such as `stamp("submitted_at")`.
        run_trigger: Trigger or triggers whose jobs are enqueued with the change, in the same
            flush.
        after: How long a record is in a source before a worker fires it, if it is there still
            and no guard refuses.

    Raises:
        DefinitionError: The name is taken, or an option does not exist.
    """

    def declare(body: Callable[..., Any]) -> Any:
        check_method(body, "transition")
        refuse_second_definition(body.__name__, depth=2)
        sources = as_tuple(source)
        spec = TransitionSpec(
            name=body.__name__,
            body=body,
            source=sources,
            target=target,
            guards=as_tuple(guard),
            allow=as_tuple(allow),
            changes=as_tuple(changes),
            promises=promises_of(run_trigger),
            after=checked_after(
                short_name(body),
                after,
                source=sources,
                target=target,
            ),
        )
        return Transition(body, spec)

    return declare
