"""What `@trigger.action(…)` is: it makes of a method an action."""

from __future__ import annotations

import enum
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, Protocol, TypeVar, overload

from statejobs.declare.action import Action, P, R, T
from statejobs.declare.chunk import ChunkContext
from statejobs.declare.chunk_action import ChunkAction
from statejobs.declare.context import AsyncJobContext, JobContext
from statejobs.declare.methods import check_method
from statejobs.declare.names import refuse_second_definition
from statejobs.record.specs import ActionSpec, TriggerSpec

E = TypeVar("E", bound=enum.Enum)


class ActionDecorator:
    """Turns the method under `@trigger.action(…)` into an `Action`."""

    def __init__(self, trigger: TriggerSpec, **declared: Any) -> None:
        self._trigger = trigger
        self._declared = declared

    @overload
    def __call__(
        self, body: Callable[[list[R], ChunkContext], None]
    ) -> ChunkAction[R]: ...
    @overload
    def __call__(
        self, body: Callable[Concatenate[R, AsyncJobContext, P], Coroutine[Any, Any, T]]
    ) -> Action[R, AsyncJobContext, P, Coroutine[Any, Any, T]]: ...
    @overload
    def __call__(
        self, body: Callable[Concatenate[R, JobContext, P], T]
    ) -> Action[R, JobContext, P, T]: ...
    def __call__(self, body: Any) -> Any:
        """Return the declared action."""
        check_method(body, "action")
        refuse_second_definition(body.__name__, depth=2)
        if isinstance(body, staticmethod):
            return ChunkAction(body.__func__, self._spec(body.__func__, is_chunk=True))
        return Action(body, self._spec(body, is_chunk=False))

    def _spec(self, body: Callable[..., Any], *, is_chunk: bool) -> ActionSpec:
        return ActionSpec(
            name=body.__name__,
            body=body,
            trigger=self._trigger,
            is_chunk=is_chunk,
            **self._declared,
        )


if TYPE_CHECKING:

    class WayDecorator(Protocol):
        """The same of an action with several targets, as type checkers see it."""

        # Not of the enum of the targets: pyright would ask for those members alone.
        @overload
        def __call__(
            self,
            body: Callable[Concatenate[R, AsyncJobContext, P], Coroutine[Any, Any, E]],
        ) -> Action[R, AsyncJobContext, P, Coroutine[Any, Any, E]]: ...
        @overload
        def __call__(
            self, body: Callable[Concatenate[R, JobContext, P], E]
        ) -> Action[R, JobContext, P, E]: ...
