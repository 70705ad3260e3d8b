"""An action as its class shows it: what was declared, and how to enqueue it."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar

from sqlalchemy.orm import Session

from statejobs.errors import WrongCallError, WrongValueError
from statejobs.record.enqueue import enqueue_action
from statejobs.record.sessions import refuse_async, refuse_sync
from statejobs.record.specs import ActionSpec
from statejobs.values.job import EnqueueResult
from statejobs.values.job_options import AT_ONCE, JobOptions
from statejobs.values.kinds import members_of
from statejobs.values.known_options import explain_options
from statejobs.values.option import given

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

R = TypeVar("R")
P = ParamSpec("P")


class ActionOnClass(Generic[R, P]):
    """What `Order.process_payment` is."""

    def __init__(self, spec: ActionSpec, options: JobOptions = AT_ONCE) -> None:
        self.spec = spec
        self._options = options

    @property
    def name(self) -> str:
        """The method's name."""
        return self.spec.name

    @property
    def source(self) -> tuple[enum.Enum, ...]:
        """States in which a record waits for the job."""
        return self.spec.source

    @property
    def target(self) -> enum.Enum | None:
        """State when the action returned; None when it has none, or several."""
        return self.spec.target

    @property
    def targets(self) -> tuple[enum.Enum, ...]:
        """States of which the action returns one; or the one to which it leads."""
        return self.spec.targets

    @property
    def during(self) -> enum.Enum | None:
        """State while it runs."""
        return self.spec.during

    @property
    def failed(self) -> enum.Enum | None:
        """State when the job gave up."""
        return self.spec.failed

    @explain_options(refusal=WrongValueError, called="….options")
    def options(
        self,
        *,
        run_at: datetime | None = None,
        delay: timedelta | None = None,
        priority: int | None = None,
        queue: str | None = None,
        tags: Sequence[str] | None = None,
        meta: Mapping[str, Any] | None = None,
        max_attempts: int | None = None,
    ) -> Self:
        """Return the same, to be enqueued otherwise: for later, or more urgently, for instance.

        What is left out stays as an earlier call chose it.

        Args:
            run_at: When it shall run, with a time zone. Default: now.
            delay: How long it shall wait, in place of `run_at`.
            priority: 0 (first) to 9 (last) inside the queue. Default: that of its trigger or task.
            queue: Queue of the job. Default: that of its trigger or task.
            tags: Words stored with it, for people to filter by. Default: those of its trigger or
                task.
            meta: What programs note on it, as JSON: a mapping, at most 8 kB. Default: that of its
                trigger or task.
            max_attempts: Attempts before it is discarded, and further ones after a retry. Default:
                those of its trigger or task.

        Raises:
            WrongValueError: A value that no job could have, both times, or no such option.
        """
        chosen = given(JobOptions, locals())
        return type(self)(self.spec, self._options.but(chosen))

    def enqueue(
        self, session: Session, record: R, /, *args: P.args, **kwargs: P.kwargs
    ) -> EnqueueResult:
        """Enqueue the action for *record* in the transaction of *session*, after flushing it.

        Raises:
            ArgumentsError: Arguments that do not fit, or would not survive being stored.
            TransitionRefusedError: The record is neither in a source nor being run.
        """
        refuse_async(
            session, "enqueue", instead="await ….enqueue_async(session, record, …)"
        )
        return self._enqueue(session, [record], args, kwargs)[0]

    def enqueue_many(
        self,
        session: Session,
        records: Sequence[R],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> list[EnqueueResult]:
        """Enqueue the action for each of *records*, with one INSERT."""
        refuse_async(session, "enqueue_many")
        records = members_of(
            f"{self.spec.label}.enqueue_many()", records, example="[order]"
        )
        return self._enqueue(session, records, args, kwargs)

    async def enqueue_async(
        self, session: AsyncSession, record: R, /, *args: P.args, **kwargs: P.kwargs
    ) -> EnqueueResult:
        """Enqueue through an `AsyncSession`."""
        refuse_sync(session, "enqueue_async", instead="….enqueue(session, record, …)")
        found = await session.run_sync(
            lambda sync: self._enqueue(sync, [record], args, kwargs)
        )
        return found[0]

    if not TYPE_CHECKING:

        def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
            """Say how to run it."""
            called = self.spec.label
            raise WrongCallError(
                f"{called} is of the class",
                fix=(
                    f"call it on a record, record.{self.name}(ctx), or enqueue it: "
                    f"{called}.enqueue(session, record)"
                ),
            )

    def _enqueue(
        self, session: Session, records: Sequence[Any], args: Any, kwargs: Any
    ) -> list[EnqueueResult]:
        return enqueue_action(
            session, self.spec, records, args=args, kwargs=kwargs, chosen=self._options
        )
