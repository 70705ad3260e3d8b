"""`@transition`: a named move of a record, as a method."""

from __future__ import annotations

import enum
import inspect
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from functools import partial, update_wrapper
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    TypeVar,
    overload,
)

from sqlalchemy.exc import SQLAlchemyError

from statejobs.errors import TransitionRefusedError
from statejobs.machine.kernel import Refusal
from statejobs.resource.declared import DeclaredTransition
from statejobs.resource.ledger import Step, ledger_of, time_of, value_of
from statejobs.resource.loading import with_loading
from statejobs.resource.methods import check_method
from statejobs.resource.names import as_tuple, refuse_second_definition, short_name
from statejobs.resource.options import explain_options
from statejobs.resource.unloaded import explain_unloaded, explain_unloaded_in_body
from statejobs.values.arguments import Signature

if TYPE_CHECKING:
    from statejobs.resource.model import ResourceModel
    from statejobs.resource.trigger import Trigger

R = TypeVar("R")
P = ParamSpec("P")
T = TypeVar("T")
Guard = Callable[[Any], bool]


class Transition(Generic[R, P, T]):
    """A declared transition; on a record it is a method, on the class a description.

    Attributes:
        name: The method's name.
        source: States from which it starts.
        target: State to which it leads.
    """

    def __init__(
        self,
        body: Callable[Concatenate[R, P], T],
        *,
        source: tuple[enum.Enum, ...],
        target: enum.Enum,
        guards: tuple[Guard, ...],
        run_trigger: Trigger | None,
    ) -> None:
        self.body = body
        self.name = body.__name__
        self.source, self.target = source, target
        self.guards, self.run_trigger = guards, run_trigger
        self.is_async = inspect.iscoroutinefunction(body)
        self._signature: Signature | None = None
        update_wrapper(self, body)  # type: ignore[arg-type]

    @property
    def signature(self) -> Signature:
        """The typed parameters of the body."""
        if self._signature is None:
            self._signature = Signature.of(
                self.body, name=short_name(self.body), skip=1, stored=False
            )
        return self._signature

    @overload
    def __get__(self, record: None, owner: type[R]) -> DeclaredTransition[R]: ...
    @overload
    def __get__(self, record: R, owner: type) -> BoundTransition[P, T]: ...
    def __get__(
        self, record: R | None, owner: type
    ) -> DeclaredTransition[R] | BoundTransition[P, T]:
        """Return what was declared on the class, the callable on a record."""
        if record is None:
            return DeclaredTransition(self, owner)
        return BoundTransition(self, record)

    def __repr__(self) -> str:
        sources = ", ".join(value_of(s) for s in self.source)
        return f"<transition {self.name}: {sources} → {value_of(self.target)}>"


if TYPE_CHECKING:

    class _Nameless: ...

    class ReturningSelf(Transition[Any, P, Any], Generic[P]):
        """A transition whose body returns the record, as type checkers see it."""

        @overload
        def __get__(self, record: None, owner: type[R]) -> DeclaredTransition[R]: ...
        @overload
        def __get__(self, record: R, owner: type) -> BoundTransition[P, R]: ...
        def __get__(self, record: Any, owner: type) -> Any: ...

    class AwaitingSelf(Transition[Any, P, Any], Generic[P]):
        """The same of an `async def` body."""

        @overload
        def __get__(self, record: None, owner: type[R]) -> DeclaredTransition[R]: ...
        @overload
        def __get__(self, record: R, owner: type) -> BoundTransition[P, Coroutine[Any, Any, R]]: ...
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
        def __call__(self, body: Callable[Concatenate[R, P], R]) -> ReturningSelf[P]: ...
        @overload
        def __call__(
            self, body: Callable[Concatenate[R, P], Coroutine[Any, Any, R]]
        ) -> AwaitingSelf[P]: ...
        @overload
        def __call__(self, body: Callable[Concatenate[R, P], T]) -> Transition[R, P, T]: ...


class BoundTransition(Generic[P, T]):
    """A transition of one record: call it to fire."""

    __slots__ = ("_record", "_transition")

    def __init__(self, declared: Transition[Any, P, T], record: Any) -> None:
        self._transition, self._record = declared, record

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the body, then move the record; the database follows with the flush.

        Raises:
            TransitionRefusedError: The record is in another state, or a guard said no.
        """
        if self._transition.is_async:
            return self._fire_async(args, kwargs)  # type: ignore[return-value]
        body = partial(self._transition.body, self._record, *args, **kwargs)
        try:
            fired: T = self._fire(body, args, kwargs)
        except SQLAlchemyError as error:
            self._explain(error, "(…)" if args or kwargs else "()")
            raise
        return fired

    def can(self) -> bool:
        """Return whether it could fire now."""
        return not self._why_not(".can()")

    def why_not(self) -> tuple[str, ...]:
        """Return why it could not fire now, a sentence for each reason; empty when it could."""
        return self._why_not(".why_not()")

    def _why_not(self, call: str) -> tuple[str, ...]:
        busy = ledger_of(self._record).running
        if busy:
            return (_busy(busy),)
        try:
            return self._model.kernel.why_not(self._record, self._transition.name)
        except SQLAlchemyError as error:
            self._explain(error, call)
            raise

    def _explain(self, error: SQLAlchemyError, call: str) -> None:
        declared = self._transition
        explain_unloaded(
            error,
            self._record,
            name=declared.name,
            call=f"{declared.name}{call}",
            guards=declared.guards,
        )

    @property
    def _model(self) -> ResourceModel:
        model: ResourceModel = type(self._record).__statejobs__
        return model

    def _fire(
        self, body: Callable[[], Any], args: Any, kwargs: Any, *, checked: bool = False,
        began: float | None = None,
    ) -> Any:  # fmt: skip
        record, declared, model = self._record, self._transition, self._model
        ledger = ledger_of(record)
        if ledger.running:
            raise refused(record, declared.name, (_busy(ledger.running),))
        given = declared.signature.bind(args, kwargs) if args or kwargs else {}
        source = model.kernel.state_of(record)
        started = time.perf_counter() if began is None else began
        try:
            with ledger.writing():
                result = model.kernel.fire(record, declared.name, body=body, skip_guards=checked)
        except Refusal as refusal:
            raise refused(record, declared.name, refusal.reasons) from None
        ledger.pending.append(
            Step(
                name=declared.name,
                source=source,
                target=value_of(declared.target),
                trigger=model.key_of(declared.run_trigger),
                args=given,
                duration=time.perf_counter() - started,
                at=time_of(record),
            )
        )
        return result

    async def _fire_async(self, args: Any, kwargs: Any) -> Any:
        """Check, await the body, check the state again, then move."""
        reasons = await with_loading(self.why_not)
        if reasons:
            raise await with_loading(refused, self._record, self._transition.name, reasons)
        began = time.perf_counter()
        body: Any = self._transition.body
        try:
            result = await body(self._record, *args, **kwargs)
        except SQLAlchemyError as error:
            explain_unloaded_in_body(error, self._transition.name)
            raise
        await with_loading(self._fire, lambda: None, args, kwargs, checked=True, began=began)
        return result


def refused(record: Any, name: str, reasons: Sequence[str]) -> TransitionRefusedError:
    """Return the error for a transition that may not fire."""
    model: ResourceModel = type(record).__statejobs__
    return TransitionRefusedError(
        name,
        record=model.label(record),
        state=model.kernel.state_of(record),
        reasons=reasons,
        available=model.could_fire(record),
    )


@explain_options()
def transition(
    source: enum.Enum | Collection[enum.Enum],
    target: enum.Enum,
    *,
    guard: Guard | Sequence[Guard] | None = None,
    run_trigger: Trigger | None = None,
) -> _Declare:
    """Declare that the decorated method moves its record from *source* to *target*.

    The body runs first; if it raises, state, history and jobs do not change. Attributes stay as
    the body left them: assign after whatever may raise, or roll the session back. The body may be
    `async def`, and takes whatever parameters the caller shall give.

    Args:
        source: State or states from which it may fire.
        target: State to which it leads.
        guard: Predicates of the record that must hold; the first line of a guard's docstring is
            the reason shown when it refuses.
        run_trigger: Trigger whose job is enqueued with the change, in the same flush.

    Raises:
        DefinitionError: The name is taken, or an option does not exist.
    """

    def declare(body: Callable[..., Any]) -> Any:
        check_method(body, "transition")
        refuse_second_definition(body.__name__, depth=2)
        return Transition(
            body,
            source=as_tuple(source),
            target=target,
            guards=as_tuple(guard),
            run_trigger=run_trigger,
        )

    return declare


def _busy(action: str) -> str:
    return (
        f"The job of {action!r} runs on it, and its outcome moves the record: "
        "return, raise an error, or raise Cancel or Snooze."
    )
