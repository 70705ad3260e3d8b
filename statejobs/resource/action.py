"""The action of a trigger: a method that a job runs, that tests call, and that people enqueue."""

from __future__ import annotations

import enum
import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state

from statejobs.resource.binds import refuse_async
from statejobs.resource.enqueue import enqueue_action
from statejobs.resource.ledger import Step, ledger_of, time_of, value_of
from statejobs.resource.loading import with_loading
from statejobs.resource.names import short_name
from statejobs.resource.transition import Guard, refused
from statejobs.resource.unloaded import explain_unloaded, explain_unloaded_in_body
from statejobs.values.arguments import Signature
from statejobs.values.graph import DELETED
from statejobs.values.job import EnqueueResult
from statejobs.values.options import JobOptions

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from statejobs.resource.model import ResourceModel
    from statejobs.resource.trigger import Trigger

R = TypeVar("R")
C = TypeVar("C")
P = ParamSpec("P")
T = TypeVar("T")


class Action(Generic[R, C, P, T]):
    """A declared action; on a record it is a method, on the class it can be enqueued.

    Attributes:
        name: The method's name.
        source: States in which the record waits for the job.
        target: State when the method returned; None when it deletes the record.
        during: State while it runs.
        failed: State when the job gave up.
    """

    def __init__(
        self,
        body: Callable[Concatenate[R, C, P], T],
        *,
        trigger: Trigger,
        source: tuple[enum.Enum, ...],
        target: enum.Enum | None,
        during: enum.Enum | None,
        failed: enum.Enum | None,
        guards: tuple[Guard, ...],
        atomic: bool,
    ) -> None:
        self.body = body
        self.name = body.__name__
        self.trigger = trigger
        self.source, self.target = source, target
        self.during, self.failed = during, failed
        self.guards, self.atomic = guards, atomic
        self.is_async = inspect.iscoroutinefunction(body)
        self._signature: Signature | None = None
        update_wrapper(self, body)  # type: ignore[arg-type]

    @property
    def signature(self) -> Signature:
        """The typed parameters after the context, which are stored with a job."""
        if self._signature is None:
            self._signature = Signature.of(self.body, name=short_name(self.body), skip=2)
        return self._signature

    async def run_async(self, record: R, ctx: C, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Await the body, which is `async def`."""
        try:
            return await self.body(record, ctx, *args, **kwargs)  # type: ignore[misc]
        except SQLAlchemyError as error:
            explain_unloaded_in_body(error, self.name, session="ctx.session")
            raise

    def edge(self, kind: str) -> str:
        """Return the name of one of the edges that a job of this action takes."""
        return f"{self.name}.{kind}"

    def returning(self, source: str) -> str:
        """Return the kind of edge that leads from `during` back to *source*."""
        return "return" if len(self.source) == 1 else f"return.{source}"

    @overload
    def __get__(self, record: None, owner: type) -> EnqueuedAction[R, P]: ...
    @overload
    def __get__(self, record: R, owner: type) -> BoundAction[C, P, T]: ...
    def __get__(self, record: R | None, owner: type) -> EnqueuedAction[R, P] | BoundAction[C, P, T]:
        """Return what can be enqueued on the class, the callable on a record."""
        return EnqueuedAction(self, owner) if record is None else BoundAction(self, record)

    def __repr__(self) -> str:
        sources = ", ".join(value_of(s) for s in self.source)
        target = DELETED if self.target is None else value_of(self.target)
        return f"<action {self.name}: {sources} → {target}>"


class BoundAction(Generic[C, P, T]):
    """An action of one record: call it to run it here, as a test does."""

    __slots__ = ("_action", "_record")

    def __init__(self, action: Action[Any, C, P, T], record: Any) -> None:
        self._action, self._record = action, record

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
            with Walk(action, self._record):
                return action.body(self._record, ctx, *args, **kwargs)
        except SQLAlchemyError as error:
            call = f"{action.name}(ctx{', …' if args or kwargs else ''})"
            explain_unloaded(error, self._record, name=action.name, call=call, guards=action.guards)
            raise

    async def _run_async(self, ctx: C, args: Any, kwargs: Any) -> Any:
        async with Walk(self._action, self._record):
            return await self._action.run_async(self._record, ctx, *args, **kwargs)


class Walk:
    """Walks a record source → during → target around a body that is called here, without a job."""

    def __init__(self, action: Action[Any, Any, Any, Any], record: Any) -> None:
        self.record, self._action = record, action
        self.is_kept = True
        """Whether the record shall reach its target; else it returns to where it was."""

    def __enter__(self) -> Self:
        """Start; TransitionRefusedError when the record is not in a source, or a guard said no."""
        record, action = self.record, self._action
        model: ResourceModel = type(record).__statejobs__
        self._source = model.member(model.kernel.state_of(record))
        reasons = model.why_not_start(record, action)
        if reasons:
            raise refused(record, action.name, reasons)
        self._began = time.perf_counter()
        # Staged before the body, which may flush.
        self._start = None
        if action.during is not None:
            self._start = self._stage("start", self._source, action.during)
        ledger_of(record).running = action.name
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Complete; or take the start back, when the body raised."""
        ledger_of(self.record).running = None
        if kind is not None or not self.is_kept:
            self._take_back(self._start, self._source)
            return
        if self._action.target is None:
            self._delete()
            return
        step = self._stage("complete", self._action.during or self._source, self._action.target)
        step.duration = time.perf_counter() - self._began

    async def __aenter__(self) -> Self:
        """Start, around an `async def` body."""
        return await with_loading(self.__enter__)

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        """Complete; a deletion may load what is deleted with the record."""
        await with_loading(self.__exit__, kind, error, trace)

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
        step.duration = time.perf_counter() - self._began
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
        action, model = self._action, type(self.record).__statejobs__
        # Not getattr: it would load, and the session may be broken.
        if action.during is None or vars(self.record).get(model.attribute) is not action.during:
            return
        pending = ledger_of(self.record).pending
        taken_back = self._stage(action.returning(value_of(source)), action.during, source)
        taken_back.trigger = model.key_of(action.trigger)
        if start in pending[-2:-1]:
            del pending[-2:]


class EnqueuedAction(Generic[R, P]):
    """An action as its class shows it: what it is, and how to enqueue it."""

    def __init__(
        self, action: Action[R, Any, P, Any], owner: type, options: JobOptions | None = None
    ) -> None:
        self.declared = action
        self._owner = owner
        self._options = options or JobOptions()

    @property
    def name(self) -> str:
        """The method's name."""
        return self.declared.name

    @property
    def source(self) -> tuple[enum.Enum, ...]:
        """States in which a record waits for the job."""
        return self.declared.source

    @property
    def target(self) -> enum.Enum | None:
        """State when the action returned; None when it deletes the record."""
        return self.declared.target

    @property
    def during(self) -> enum.Enum | None:
        """State while it runs."""
        return self.declared.during

    @property
    def failed(self) -> enum.Enum | None:
        """State when the job gave up."""
        return self.declared.failed

    def options(
        self,
        *,
        run_at: datetime | None = None,
        delay: timedelta | None = None,
        priority: int | None = None,
    ) -> Self:
        """Return the same, to be enqueued for later or at another priority.

        What is left out stays as an earlier call chose it.

        Raises:
            TypeError: A value of another type.
            ValueError: Both times, a naive time, a negative delay or a wrong priority.
        """
        given: dict[str, Any] = {"run_at": run_at, "delay": delay, "priority": priority}
        chosen = replace(self._options, **{k: v for k, v in given.items() if v is not None})
        return type(self)(self.declared, self._owner, chosen)

    def enqueue(
        self, session: Session, record: R, /, *args: P.args, **kwargs: P.kwargs
    ) -> EnqueueResult:
        """Enqueue the action for *record* in the transaction of *session*, after flushing it.

        Raises:
            ArgumentsError: Arguments that do not fit, or would not survive being stored.
            TransitionRefusedError: The record is neither in a source nor being run.
        """
        refuse_async(session, "enqueue", instead="await ….enqueue_async(session, record, …)")
        return self._enqueue(session, [record], args, kwargs)[0]

    def enqueue_many(
        self, session: Session, records: Sequence[R], /, *args: P.args, **kwargs: P.kwargs
    ) -> list[EnqueueResult]:
        """Enqueue the action for each of *records*, with one INSERT."""
        refuse_async(session, "enqueue_many")
        return self._enqueue(session, records, args, kwargs)

    async def enqueue_async(
        self, session: AsyncSession, record: R, /, *args: P.args, **kwargs: P.kwargs
    ) -> EnqueueResult:
        """Enqueue through an `AsyncSession`."""
        found = await session.run_sync(lambda sync: self._enqueue(sync, [record], args, kwargs))
        return found[0]

    def _enqueue(
        self, session: Session, records: Sequence[Any], args: Any, kwargs: Any
    ) -> list[EnqueueResult]:
        return enqueue_action(
            session, self.declared, records, args=args, kwargs=kwargs, chosen=self._options
        )
