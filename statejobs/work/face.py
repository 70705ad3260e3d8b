"""How a body is called, and the session that it writes through: at once, or awaited.

An attempt is the same for a `def` as for an `async def`, but for what is here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from statejobs.acting import acting_for_job
from statejobs.declare.context import AsyncJobContext, JobContext
from statejobs.record.loading import with_loading
from statejobs.record.unloaded import explain_unloaded_in_body
from statejobs.runner.port import Claim
from statejobs.store.store import Store
from statejobs.values.clock import Sources
from statejobs.values.job import Job
from statejobs.values.outcome import Complete, Outcome, Stale
from statejobs.values.unrun import ran
from statejobs.work.outcomes import outcome_of
from statejobs.work.session import JobSession, OnBegin, session_info

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

R = TypeVar("R")


class Body(Protocol):
    """What is called."""

    claims: Sequence[Claim]
    actor: str | None
    """For whom it acts."""
    kind: str
    """What it is, for messages: an action, or a task."""
    name: str
    variable: str
    """What an example calls a record that the body has."""
    may_load: bool
    """Whether `prepare` may ask the database."""
    concludes: bool
    """Whether more is to be known, once the body has returned, than that it did."""

    def prepare(self) -> Callable[[], Any] | Stale | None:
        """Return the call of the body; None when no record is left that it takes.

        A record that is all there is, and that a guard does not let start, is `Stale`.
        """
        ...

    def conclude(self, returned: Any) -> None:
        """Take what the body returned, and note what follows; what it raises is the outcome.

        Not called where the body returned nothing and does not conclude.
        """
        ...


class Face:
    """The session of a `def` body, if it has one."""

    is_async: ClassVar[bool] = False
    context: ClassVar[Any] = JobContext
    """What a body of one job is given."""

    __slots__ = ("close", "session", "sync")

    def __init__(self, session: JobSession | None = None) -> None:
        self.session: Any = session
        """What the body sees."""
        self.sync = session
        """What we see."""
        self.close = _nothing if session is None else session.close
        """Rolls back what was not committed, and gives the connection back."""

    def call(self, body: Body) -> Outcome:
        """Call *body*; every exception becomes an outcome."""
        sync = self.sync
        outcome = _COMPLETE
        with acting_for_job(body.actor, body.claims[0].job.tenant):
            try:
                run = body.prepare()
                if isinstance(run, Stale):
                    outcome = run
                elif run is not None:
                    if (done := run()) is not None:
                        ran(done, body.kind, body.name)
                    if done is not None or body.concludes:
                        body.conclude(done)
                    if sync is not None and sync.kept is not None:
                        sync.kept.check_open()
            except BaseException as error:  # noqa: BLE001 - sys.exit must not end the worker
                outcome = outcome_of(error)
        held = None if sync is None else sync.on_begin
        return outcome if held is None else held.outcome or outcome

    def run(self, function: Callable[[JobSession], R]) -> R:
        """Return what *function* returns for the session."""
        assert self.sync is not None  # noqa: S101 - without one, nothing was written
        return function(self.sync)


class AsyncFace:
    """The session of an `async def` body, if it has one."""

    is_async: ClassVar[bool] = True
    context: ClassVar[Any] = AsyncJobContext

    __slots__ = ("session", "sync")

    def __init__(self, session: AsyncSession | None = None) -> None:
        self.session: Any = session
        self.sync: Any = None if session is None else session.sync_session

    async def call(self, body: Body) -> Outcome:
        """Call *body*; every exception becomes an outcome."""
        sync = self.sync
        outcome = _COMPLETE
        with acting_for_job(body.actor, body.claims[0].job.tenant):
            try:
                run = (
                    await with_loading(body.prepare)
                    if body.may_load
                    else body.prepare()
                )
                if isinstance(run, Stale):
                    outcome = run
                elif run is not None:
                    done = ran(await _awaited(run, body), body.kind, body.name)
                    if done is not None or body.concludes:
                        await with_loading(body.conclude, done)
                    if sync is not None and sync.kept is not None:
                        sync.kept.check_open()
            except BaseException as error:  # noqa: BLE001 - sys.exit must not end the worker
                outcome = outcome_of(error)
        held = None if sync is None else sync.on_begin
        return outcome if held is None else held.outcome or outcome

    def run(self, function: Callable[[JobSession], R]) -> Awaitable[R]:
        """Return what *function* returns for the sync face of the session, where it may do I/O."""
        done: Awaitable[R] = self.session.run_sync(function)
        return done

    async def close(self) -> None:
        """Roll back what was not committed, and give the connection back."""
        if self.session is not None:
            await self.session.close()


def _nothing() -> None:
    """Close no session."""


NO_SESSION = Face()
NO_ASYNC_SESSION = AsyncFace()


def open_face(
    store: Store,
    open_engine: Callable[[], AsyncEngine],
    claim: Claim,
    sources: Sources,
    *,
    job: Job | None,
    on_begin: OnBegin | None = None,
) -> Face | AsyncFace:
    """Open a session for the body of *claim*.

    Args:
        store: On whose database.
        open_engine: Returns the engine that an `async def` body needs.
        claim: What is attempted.
        sources: Clock and ids of the session.
        job: Whom its rows of history name.
        on_begin: Called when it has begun a transaction.
    """
    info = session_info(sources, job)

    def with_begin() -> str:
        return store.with_begin(claim.timeout)

    if not claim.policy.is_async:
        session = JobSession(
            store.working, info=info, with_begin=with_begin, on_begin=on_begin
        )
        return Face(session)
    from sqlalchemy.ext.asyncio import AsyncSession  # noqa: PLC0415 - needs the async extra

    return AsyncFace(
        AsyncSession(
            open_engine(),
            sync_session_class=JobSession,
            info=info,
            with_begin=with_begin,
            on_begin=on_begin,
        )
    )


async def _awaited(run: Callable[[], Coroutine[Any, Any, Any]], body: Body) -> Any:
    try:
        return await run()
    except SQLAlchemyError as error:
        explain_unloaded_in_body(
            error, body.name, session="ctx.session", variable=body.variable
        )
        raise


_COMPLETE: Outcome = Complete()
