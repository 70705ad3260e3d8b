"""An action that is called here, without a job, as a test does: its record walks as with one."""

from __future__ import annotations

import enum
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm.attributes import instance_state

from statejobs.acting import current_acting
from statejobs.errors import WrongCallError
from statejobs.record.change import ChangeContext, apply_changes
from statejobs.record.firing import refused
from statejobs.record.ledger import (
    SYSTEM,
    Step,
    ledger_of,
    session_clock,
    time_of,
    value_of,
)
from statejobs.record.loading import with_loading
from statejobs.record.specs import ActionSpec
from statejobs.record.unloaded import explain_unloaded, explain_unloaded_in_body
from statejobs.values.article import indefinite
from statejobs.values.graph import DELETED, Promise
from statejobs.values.unrun import ran

if TYPE_CHECKING:
    from statejobs.record.model import ResourceModel

C = TypeVar("C")
P = ParamSpec("P")
T = TypeVar("T")


_OF_THE_CLASS = {"enqueue", "enqueue_many", "enqueue_async", "options"}


def _with_context(call: Callable[..., Any]) -> Callable[..., Any]:
    """Let *call* say what it lacks when it is given no context."""

    @wraps(call)
    def checked(self: BoundAction[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:
        if not args:
            called = self._action.label
            kind = "AsyncJobContext" if self._action.is_async else "JobContext"
            raise WrongCallError(
                f"a call runs its body here, and needs {indefinite(kind)}: "
                f"record.{self._action.name}(ctx)",
                where=called,
                fix=f"to run it as a job, say {called}.enqueue(session, record)",
            )
        return call(self, *args, **kwargs)

    return checked


class BoundAction(Generic[C, P, T]):
    """An action of one record: call it to run it here, as a test does."""

    __slots__ = ("_action", "_record")

    def __init__(self, action: ActionSpec, record: Any) -> None:
        self._action = action
        self._record = record

    def __call__(self, ctx: C, /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the body and walk the record source → during → target.

        If the body raises, the record is in the state that it came from; its attributes stay as the
        body left them, which a job would roll back.

        Raises:
            TransitionRefusedError: The record is not in a source, or a guard said no.
        """
        if self._action.is_async:
            return self._run_async(ctx, args, kwargs)  # type: ignore[return-value]
        action = self._action
        try:
            with Walk(action, self._record) as walk:
                done: T = action.body(self._record, ctx, *args, **kwargs)
                walk.returned = ran(done, "action", action.name)
                return done
        except SQLAlchemyError as error:
            call = f"{action.name}(ctx{', …' if args or kwargs else ''})"
            explain_unloaded(
                error, self._record, name=action.name, call=call, guards=action.guards
            )
            raise

    if not TYPE_CHECKING:  # which see it by themselves
        __call__ = _with_context(__call__)

        def __getattr__(self, name: str) -> Any:
            """Say of what the class has that it has it."""
            if name in _OF_THE_CLASS:
                called = self._action.label
                given = "…" if name == "options" else "session, record"
                raise WrongCallError(
                    f"{name} is of the class, not of a record",
                    where=called,
                    fix=f"say {called}.{name}({given})",
                )
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}"
            )

    async def _run_async(self, ctx: C, args: Any, kwargs: Any) -> Any:
        async with Walk(self._action, self._record) as walk:
            walk.returned = await run_async(
                self._action, self._record, ctx, *args, **kwargs
            )
            return walk.returned


class Walk:
    """Walks a record source → during → target around a body that is called here, without a job."""

    def __init__(self, action: ActionSpec, record: Any) -> None:
        self.record = record
        self._action = action
        self.is_kept = True
        """Whether the record shall reach its target; else it returns to where it was."""
        self.returned: object = None
        """What the body has returned, which says which of several targets that is."""

    def __enter__(self) -> Self:
        """Start; TransitionRefusedError when the record is not in a source, or a guard said no."""
        record = self.record
        action = self._action
        model: ResourceModel = type(record).__statejobs__
        self._source = model.members[model.kernel.state_of(record)]
        reasons = model.why_not_start(record, action)
        if reasons:
            raise refused(record, action.name, reasons)
        self._monotonic = (session_clock(record) or SYSTEM).monotonic
        self._began = self._monotonic()
        # Staged before the body, which may flush.
        self._start = None
        if action.during is not None:
            self._start = self._stage("start", self._source, action.during)
        ledger_of(record).running = action.name
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Complete; or take the start back, when the body raised."""
        target = None
        is_kept = False
        try:
            if kind is None and self.is_kept:
                target = self._end()
                is_kept = True
        finally:
            ledger_of(self.record).running = None
            if not is_kept:
                self._take_back(self._start, self._source)
        if not is_kept:
            return
        if target is not None:
            self._complete(target)
        elif self._action.deletes:
            self._delete()

    def _end(self) -> enum.Enum | None:
        """Make the changes that go with the end; return where it leads, None when to no record."""
        action = self._action
        target = action.target_of(self.returned) if action.targets else None
        if action.changes:
            self._change()
        return target

    def _complete(self, target: enum.Enum) -> None:
        action = self._action
        kind = action.completing(value_of(target))
        step = self._stage(kind, action.during or self._source, target)
        step.duration = self._monotonic() - self._began
        bound = type(self.record).__statejobs__.by_spec[action.trigger]
        step.promises = bound.runs.get(step.target, ())

    async def __aenter__(self) -> Self:
        """Start, around an `async def` body."""
        return await with_loading(self.__enter__)

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        """Complete; a deletion may load what is deleted with the record."""
        await with_loading(self.__exit__, kind, error, trace)

    def _change(self) -> None:
        clock = session_clock(self.record) or SYSTEM
        acting = current_acting()
        tenant = type(self.record).__statejobs__.tenant_of(self.record, acting)
        ctx = ChangeContext(now=clock.now(), actor=acting.actor, tenant=tenant)
        apply_changes(self._action.changes, self.record, ctx)

    def _delete(self) -> None:
        """Delete the record from its session, if it has one; its flush writes the last step."""
        state = instance_state(self.record)
        session = state.session
        if session is None or state.deleted:
            return
        if state.pending:
            session.expunge(self.record)
            return
        source = self._action.during or self._source
        step = self._step("complete", source, DELETED)
        step.duration = self._monotonic() - self._began
        ledger_of(self.record).pending.append(step)
        session.delete(self.record)

    def _stage(self, kind: str, source: enum.Enum, target: enum.Enum) -> Step:
        record = self.record
        ledger = ledger_of(record)
        with ledger.writing():
            setattr(record, type(record).__statejobs__.attribute, target)
        step = self._step(kind, source, value_of(target))
        ledger.pending.append(step)
        return step

    def _step(self, kind: str, source: enum.Enum, target: str) -> Step:
        return Step(
            name=self._action.edge(kind),
            source=value_of(source),
            target=target,
            at=time_of(self.record),
        )

    def _take_back(self, start: Step | None, source: enum.Enum) -> None:
        """Undo the start; from one that the body has flushed, the record and its job return."""
        action = self._action
        model = type(self.record).__statejobs__
        # Not getattr: it would load, and the session may be broken.
        if (
            action.during is None
            or vars(self.record).get(model.attribute) is not action.during
        ):
            return
        pending = ledger_of(self.record).pending
        taken_back = self._stage(
            action.returning(value_of(source)), action.during, source
        )
        taken_back.promises = (Promise(model.by_spec[action.trigger].key),)
        if start in pending[-2:-1]:
            del pending[-2:]


async def run_async(
    action: ActionSpec, record: object, ctx: object, /, *args: Any, **kwargs: Any
) -> Any:
    """Await the body of *action*, which is `async def`."""
    try:
        returned = await action.body(record, ctx, *args, **kwargs)
    except SQLAlchemyError as error:
        explain_unloaded_in_body(error, action.name, session="ctx.session")
        raise
    return ran(returned, "action", action.name)
