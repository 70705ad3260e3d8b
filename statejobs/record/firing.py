"""Fires a transition of one record: in memory, and staged for the flush."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Generic, ParamSpec, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from statejobs.acting import current_acting
from statejobs.errors import NotAllowedError, TransitionRefusedError
from statejobs.machine.kernel import NotFired
from statejobs.record.change import ChangeContext, apply_changes
from statejobs.record.ledger import SYSTEM, Step, ledger_of, session_clock, value_of
from statejobs.record.loading import with_loading
from statejobs.record.model import ResourceModel
from statejobs.record.specs import TransitionSpec
from statejobs.record.timeouts import due_at
from statejobs.record.unloaded import explain_unloaded, explain_unloaded_in_body
from statejobs.values.clock import Clock
from statejobs.values.unrun import ran

P = ParamSpec("P")
T = TypeVar("T")


class BoundTransition(Generic[P, T]):
    """A transition of one record: call it to fire."""

    __slots__ = ("_record", "_spec")

    def __init__(self, spec: TransitionSpec, record: Any) -> None:
        self._spec = spec
        self._record = record

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the body, then move the record; the database follows with the flush.

        Raises:
            TransitionRefusedError: The record is in another state, or a guard said no.
        NotAllowedError: A permission said no to who acts; it is one of those, too.
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

    def due_at(self) -> datetime | None:
        """Return when it fires by itself, by its `after=`; a worker comes by soon after that.

        None where it does not: it has no `after=`, the record is in no source of it or moves there
        with the next flush, or nobody knows since when it is there.
        """
        try:
            return due_at(self._record, self._spec)
        except SQLAlchemyError as error:
            self._explain(error, ".due_at()")
            raise

    def _why_not(self, call: str) -> tuple[str, ...]:
        busy = ledger_of(self._record).running
        if busy:
            return (_busy(busy),)
        model = self._model
        try:
            forbidden = model.why_forbidden(self._record, self._spec)
            return (*forbidden, *model.kernel.why_not(self._record, self._spec.name))
        except SQLAlchemyError as error:
            self._explain(error, call)
            raise

    def _explain(self, error: SQLAlchemyError, call: str) -> None:
        spec = self._spec
        explain_unloaded(
            error,
            self._record,
            name=spec.name,
            call=f"{spec.name}{call}",
            guards=spec.guards,
        )

    @property
    def _model(self) -> ResourceModel:
        model: ResourceModel = type(self._record).__statejobs__
        return model

    def _fire(
        self,
        body: Callable[[], Any],
        args: Any,
        kwargs: Any,
        *,
        checked: bool = False,
        began: float | None = None,
    ) -> Any:
        record = self._record
        spec = self._spec
        model = self._model
        ledger = ledger_of(record)
        if ledger.running:
            raise refused(record, spec.name, (_busy(ledger.running),))
        if spec.allow and not checked:
            self._refuse_forbidden()
        given = spec.signature.bind(args, kwargs) if args or kwargs else {}
        clock = session_clock(record)
        monotonic = (clock or SYSTEM).monotonic
        started = monotonic() if began is None else began
        if spec.changes:
            body = partial(self._change, body, clock or SYSTEM)
        with ledger.writing():
            move = model.kernel.fire(record, spec.name, body=body, skip_guards=checked)
        if isinstance(move, NotFired):
            raise refused(record, spec.name, move.reasons)
        ledger.pending.append(
            Step(
                name=spec.name,
                source=move.source,
                target=value_of(spec.target),
                promises=move.edge.runs,
                args=given,
                duration=monotonic() - started,
                at=None if clock is None else clock.now(),
            )
        )
        return move.result

    def _change(self, body: Callable[[], Any], clock: Clock) -> Any:
        """Run the body, then what else the transition changes."""
        spec = self._spec
        result = ran(body(), "transition", spec.name)
        acting = current_acting()
        tenant = self._model.tenant_of(self._record, acting)
        ctx = ChangeContext(now=clock.now(), actor=acting.actor, tenant=tenant)
        apply_changes(spec.changes, self._record, ctx)
        return result

    def _refuse_forbidden(self) -> None:
        reasons = self._model.why_forbidden(self._record, self._spec)
        if reasons:
            kind = NotAllowedError
            raise refused(self._record, self._spec.name, reasons, kind=kind)

    async def _fire_async(self, args: Any, kwargs: Any) -> Any:
        """Check, await the body, check the state again, then move."""
        if self._spec.allow:
            await with_loading(self._refuse_forbidden)
        reasons = await with_loading(self.why_not)
        if reasons:
            raise await with_loading(refused, self._record, self._spec.name, reasons)
        began = (session_clock(self._record) or SYSTEM).monotonic()
        body: Any = self._spec.body
        try:
            returned = await body(self._record, *args, **kwargs)
        except SQLAlchemyError as error:
            explain_unloaded_in_body(error, self._spec.name)
            raise
        result = ran(returned, "transition", self._spec.name)
        await with_loading(
            self._fire, lambda: None, args, kwargs, checked=True, began=began
        )
        return result


def refused(
    record: Any,
    name: str,
    reasons: Sequence[str],
    *,
    kind: type[TransitionRefusedError] = TransitionRefusedError,
) -> TransitionRefusedError:
    """Return the error for a transition that may not fire."""
    model: ResourceModel = type(record).__statejobs__
    return kind(
        name,
        record=model.label(record),
        state=model.kernel.state_of(record),
        reasons=reasons,
        available=model.could_fire(record),
    )


def _busy(action: str) -> str:
    return (
        f"The job of {action!r} runs on it, and its outcome moves the record: "
        "return, raise an error, or raise Cancel, Snooze or Stale."
    )
