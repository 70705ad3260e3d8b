"""The action of a trigger with `chunk=`: a static method that takes many records in one call."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Generic, overload

from statejobs.declare.action import Action, R
from statejobs.declare.action_on_class import ActionOnClass
from statejobs.declare.chunk import ChunkContext
from statejobs.record.walk import Walk
from statejobs.values.outcome import Complete
from statejobs.values.unrun import ran


class ChunkAction(Action[R, ChunkContext, [], None], Generic[R]):
    """A declared action that takes a list of records; enqueued for each record by itself."""

    @overload  # type: ignore[override]
    def __get__(self, record: None, owner: type) -> ChunkOnClass[R]: ...
    @overload
    def __get__(self, record: object, owner: type) -> ChunkOnClass[R]: ...
    def __get__(self, record: object | None, owner: type) -> ChunkOnClass[R]:
        """Return what can be enqueued and called, on the class as on a record."""
        return ChunkOnClass(self.spec)


class ChunkOnClass(ActionOnClass[R, []], Generic[R]):
    """A chunk action as its class shows it: enqueue it, or call it here, as a test does."""

    def __call__(self, records: Sequence[R], ctx: ChunkContext, /) -> None:
        """Run the body and walk each record source → during → target.

        If the body raises, the records are in the state that they came from, and so are those that
        it gave another outcome; attributes stay as the body left them.

        Raises:
            TransitionRefusedError: A record is not in a source, or a guard said no.
        """
        body: Any = self.spec.body
        with ExitStack() as stack:
            walks = [stack.enter_context(Walk(self.spec, record)) for record in records]
            ran(body(list(records), ctx), "action", self.spec.name)
            for walk in walks:
                walk.is_kept = isinstance(ctx.outcome_of(walk.record), Complete)
