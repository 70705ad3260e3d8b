"""`@task`: a function that runs as a job, for work that belongs to no record."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import update_wrapper
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    TypeVar,
    overload,
)

from sqlalchemy.orm import Session

from statejobs.declare.context import AsyncJobContext, JobContext
from statejobs.declare.task_checks import (
    check_body,
    check_hook,
    check_unique,
    context_of,
    refuse_required,
)
from statejobs.errors import WrongValueError
from statejobs.record.enqueue_tasks import enqueue_task
from statejobs.record.home import Home
from statejobs.record.listening import listen_to_sessions
from statejobs.record.sessions import refuse_async, refuse_sync
from statejobs.record.specs import TaskSpec
from statejobs.values.backoff import Backoff
from statejobs.values.job import EnqueueResult, Job
from statejobs.values.job_options import AT_ONCE, JobOptions
from statejobs.values.kinds import members_of
from statejobs.values.known_options import explain_options
from statejobs.values.levels import LogLevel
from statejobs.values.option import chosen, given
from statejobs.values.options import TaskOptions
from statejobs.values.timetable import Timetable
from statejobs.values.unique import Unique

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

P = ParamSpec("P")
"""What is stored with a job."""
Q = ParamSpec("Q")
"""What the body takes: the same, after the context if it wants one."""
T = TypeVar("T")


class TaskRequest(Generic[P]):
    """A task, and when and how urgently the jobs that it is asked for shall run."""

    def __init__(self, spec: TaskSpec, chosen: JobOptions) -> None:
        self.spec = spec
        self._chosen = chosen

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
    ) -> TaskRequest[P]:
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
        return TaskRequest(self.spec, self._chosen.but(chosen))

    def enqueue(
        self, session: Session, /, *args: P.args, **kwargs: P.kwargs
    ) -> EnqueueResult:
        """Enqueue one job in the transaction of *session*.

        Each call makes a job of its own, unless the task is `Unique`.

        Raises:
            ArgumentsError: Arguments that do not fit, or would not survive being stored.
            DuplicateJobError: A job has its key, and its `Unique` raises.
        """
        refuse_async(session, "enqueue", instead="await ….enqueue_async(session, …)")
        return self._enqueue(session, args, kwargs)

    def enqueue_many(
        self, session: Session, calls: Sequence[Mapping[str, Any]], /
    ) -> list[EnqueueResult]:
        """Enqueue one job for each of *calls*, the arguments by name, with one INSERT.

        Raises:
            ArgumentsError: As `enqueue`; then none of them is enqueued.
            DuplicateJobError: The same, of a `Unique` that raises.
        """
        refuse_async(session, "enqueue_many")
        calls = members_of(
            f"{self.spec.name}.enqueue_many()", calls, example="[{'n': 1}]"
        )
        return enqueue_task(session, self.spec, calls, chosen=self._chosen)

    async def enqueue_async(
        self, session: AsyncSession, /, *args: P.args, **kwargs: P.kwargs
    ) -> EnqueueResult:
        """Enqueue one job through an `AsyncSession`."""
        refuse_sync(session, "enqueue_async", instead="….enqueue(session, …)")
        return await session.run_sync(lambda sync: self._enqueue(sync, args, kwargs))

    def _enqueue(self, session: Session, args: Any, kwargs: Any) -> EnqueueResult:
        values = self.spec.signature.bind(args, kwargs)
        return enqueue_task(session, self.spec, [values], chosen=self._chosen)[0]


class Task(TaskRequest[P], Generic[Q, P, T]):
    """A declared task: call it to run its body here, as a test does, or enqueue it."""

    def __init__(self, body: Callable[Q, T], spec: TaskSpec) -> None:
        super().__init__(spec, AT_ONCE)
        self._body = body
        update_wrapper(self, body)
        listen_to_sessions()

    @property
    def key(self) -> str:
        """Stable name stored with its jobs."""
        return self.spec.key

    @property
    def name(self) -> str:
        """Name of the function."""
        return self.spec.name

    def __call__(self, *args: Q.args, **kwargs: Q.kwargs) -> T:
        """Run the body here and now; no job is involved."""
        return self._body(*args, **kwargs)

    def on_discard(
        self, hook: Callable[Concatenate[Session, str, P], None]
    ) -> Callable[Concatenate[Session, str, P], None]:
        """Declare what runs, in the commit of the discard, when a job gave up.

        The function takes the session, the reason, and the arguments of the job. It runs in a
        savepoint; when it fails, that is recorded and the discard stands.

        Raises:
            DefinitionError: It is the second, or could not be called.
        """
        check_hook(self.spec, hook)
        self.spec = replace(self.spec, discard_hook=hook)
        return hook

    def __repr__(self) -> str:
        return repr(self.spec)


class TaskDecorator:
    """Turns the function under `@task(…)` into a `Task`."""

    def __init__(
        self,
        options: TaskOptions,
        chosen: frozenset[str],
        timetable: Timetable | None = None,
    ) -> None:
        self._options = options
        self._chosen = chosen
        self._timetable = timetable

    @overload
    def __call__(
        self, body: Callable[Concatenate[JobContext, P], T]
    ) -> Task[Concatenate[JobContext, P], P, T]: ...
    @overload
    def __call__(
        self, body: Callable[Concatenate[AsyncJobContext, P], Coroutine[Any, Any, T]]
    ) -> Task[Concatenate[AsyncJobContext, P], P, Coroutine[Any, Any, T]]: ...
    @overload
    def __call__(self, body: Callable[P, T]) -> Task[P, P, T]: ...
    def __call__(self, body: Callable[..., Any]) -> Task[..., ..., Any]:
        """Return the task that *body* is."""
        if self._timetable is not None and isinstance(body, staticmethod):
            body = body.__func__
        check_body(body, self._options.key)
        takes_context = context_of(body, self._options.key) is not None
        check_unique(body, self._options, skip=int(takes_context))
        if self._timetable is not None:
            refuse_required(body, self._options.key, skip=int(takes_context))
        spec = TaskSpec(
            name=body.__name__,
            body=body,
            written=self._options,
            chosen=self._chosen,
            home=Home(),
            takes_context=takes_context,
            timetable=self._timetable,
        )
        return Task(body, spec)


@explain_options()
def task(
    key: str,
    *,
    aliases: Sequence[str] = (),
    queue: str | None = None,
    priority: int | None = None,
    max_attempts: int | None = None,
    max_crashes: int = 3,
    max_snoozes: int = 1000,
    backoff: Backoff
    | timedelta
    | Sequence[timedelta]
    | Callable[[int, BaseException | None], timedelta]
    | None = None,
    timeout: timedelta | Callable[[Job], timedelta | None] | None = None,
    paused: bool = False,
    tags: Sequence[str] | None = None,
    default_actor: str | None = None,
    log_level: LogLevel | int = "warning",
    log_final_level: LogLevel | int = "error",
    meta: Mapping[str, Any] | None = None,
    upcast: Callable[[dict[str, Any]], Mapping[str, Any]] | None = None,
    unique: Unique | None = None,
) -> TaskDecorator:
    """Declare that the decorated function runs as a job that belongs to no record.

    Its annotated parameters are stored with the job as JSON. A first parameter annotated as
    `JobContext` (`AsyncJobContext` when it is `async def`) is passed by the runner. List the task
    in a `Domain` of every app that shall run it.

    Args:
        key: Stable name stored with its jobs, for instance `"report.daily"`; it survives renames of
            code.
        aliases: Former keys, whose stored jobs still run.
        queue: Queue of its jobs. Default: its domain's, or `"default"`.
        priority: 0 (first) to 9 (last) inside the queue. Default: its domain's, or `0`.
        max_attempts: Attempts before a job is discarded. Default: its domain's, or `5`.
        max_crashes: Attempts that may end with their worker before it is discarded.
        max_snoozes: How often a job may ask to run later, by `Snooze`, before it is discarded.
        backoff: Wait before the next attempt: a `timedelta`, a list of them, a function `(attempt,
            error) -> timedelta`, or a `Backoff`. Default: its domain's, or `Exponential()`.
        timeout: How long one attempt may take: a `timedelta`, or a function of the `Job`. Default:
            its domain's, or `None`.
        paused: Whether its jobs are enqueued and wait, until code without it is deployed.
        tags: Words stored with its jobs, for people to filter by. Default: its domain's, or `()`.
        default_actor: Actor of jobs that nobody asked for, for instance `"system:billing"`.
        log_level: Level at which a failed attempt is logged, `"debug"` to `"critical"`.
        log_final_level: Level at which the attempt is logged with which a job is discarded.
        meta: What programs note on its jobs, as JSON: a mapping, at most 8 kB.
        upcast: Called with the stored arguments of an old job that no longer fit, as JSON values;
            returns those of today.
        unique: At most one job for what requests share: a `Unique`.

    Raises:
        DefinitionError: A value that no job could have, or a function that cannot be one.
    """
    names = locals()
    return TaskDecorator(given(TaskOptions, names), chosen(TaskOptions, names))
