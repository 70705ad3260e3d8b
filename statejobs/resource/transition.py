"""`@transition`: a named move of a record, as a method."""

from __future__ import annotations

import enum
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

from statejobs.machine.kernel import Refusal
from statejobs.resource.ledger import Step, ledger_of, time_of, value_of
from statejobs.resource.loading import with_loading
from statejobs.resource.methods import check_method
from statejobs.resource.names import as_tuple, refuse_second_definition
from statejobs.resource.options import explain_options
from statejobs.resource.refusal import refused
from statejobs.resource.specs import GuardFunction, TransitionSpec
from statejobs.resource.transition_on_class import TransitionOnClass
from statejobs.resource.trigger import Trigger, spec_of
from statejobs.resource.unloaded import explain_unloaded, explain_unloaded_in_body

if TYPE_CHECKING:
    from statejobs.resource.model import ResourceModel

R = TypeVar("R")
P = ParamSpec("P")
T = TypeVar("T")


class Transition(Generic[R, P, T]):
    """A declared transition; on a record it is a method, on the class a description."""

    def __init__(self, body: Callable[Concatenate[R, P], T], spec: TransitionSpec) -> None:
        self.spec = spec
        update_wrapper(self, body)  # type: ignore[arg-type]

    @overload
    def __get__(self, record: None, owner: type[R]) -> TransitionOnClass[R]: ...
    @overload
    def __get__(self, record: R, owner: type) -> BoundTransition[P, T]: ...
    def __get__(
        self, record: R | None, owner: type
    ) -> TransitionOnClass[R] | BoundTransition[P, T]:
        """Return what was declared on the class, the callable on a record."""
        if record is None:
            return TransitionOnClass(self.spec, owner)
        return BoundTransition(self.spec, record)

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

    __slots__ = ("_record", "_spec")

    def __init__(self, spec: TransitionSpec, record: Any) -> None:
        self._spec, self._record = spec, record

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the body, then move the record; the database follows with the flush.

        Raises:
            TransitionRefusedError: The record is in another state, or a guard said no.
        """
        if self._spec.is_async:
            return self._fire_async(args, kwargs)  # type: ignore[return-value]
        body = partial(self._spec.body, self._record, *args, **kwargs)
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
            return self._model.kernel.why_not(self._record, self._spec.name)
        except SQLAlchemyError as error:
            self._explain(error, call)
            raise

    def _explain(self, error: SQLAlchemyError, call: str) -> None:
        spec = self._spec
        explain_unloaded(
            error, self._record, name=spec.name, call=f"{spec.name}{call}", guards=spec.guards
        )

    @property
    def _model(self) -> ResourceModel:
        model: ResourceModel = type(self._record).__statejobs__
        return model

    def _fire(
        self, body: Callable[[], Any], args: Any, kwargs: Any, *, checked: bool = False,
        began: float | None = None,
    ) -> Any:  # fmt: skip
        record, spec, model = self._record, self._spec, self._model
        ledger = ledger_of(record)
        if ledger.running:
            raise refused(record, spec.name, (_busy(ledger.running),))
        given = spec.signature.bind(args, kwargs) if args or kwargs else {}
        source = model.kernel.state_of(record)
        started = time.perf_counter() if began is None else began
        try:
            with ledger.writing():
                result = model.kernel.fire(record, spec.name, body=body, skip_guards=checked)
        except Refusal as refusal:
            raise refused(record, spec.name, refusal.reasons) from None
        ledger.pending.append(
            Step(
                name=spec.name,
                source=source,
                target=value_of(spec.target),
                trigger=model.key_of(spec.run_trigger),
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
            raise await with_loading(refused, self._record, self._spec.name, reasons)
        began = time.perf_counter()
        body: Any = self._spec.body
        try:
            result = await body(self._record, *args, **kwargs)
        except SQLAlchemyError as error:
            explain_unloaded_in_body(error, self._spec.name)
            raise
        await with_loading(self._fire, lambda: None, args, kwargs, checked=True, began=began)
        return result


@explain_options()
def transition(
    source: enum.Enum | Collection[enum.Enum],
    target: enum.Enum,
    *,
    guard: GuardFunction | Sequence[GuardFunction] | None = None,
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
        spec = TransitionSpec(
            name=body.__name__,
            body=body,
            source=as_tuple(source),
            target=target,
            guards=as_tuple(guard),
            run_trigger=spec_of(run_trigger),
        )
        return Transition(body, spec)

    return declare


def _busy(action: str) -> str:
    return (
        f"The job of {action!r} runs on it, and its outcome moves the record: "
        "return, raise an error, or raise Cancel or Snooze."
    )
