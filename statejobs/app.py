"""`StateJobs`: the composition root. Wires everything, and passes it in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import URL, Connection, Engine
from sqlalchemy.orm import Session, sessionmaker

from statejobs.awaited import Awaited
from statejobs.config import Retention, WorkerSettings, check_parts
from statejobs.declare.domain import Domain
from statejobs.declare.registry import Registry
from statejobs.people.by_hand import ByHand
from statejobs.people.desk import Desk
from statejobs.people.named import Named
from statejobs.record.actors import ActorCodec
from statejobs.record.ledger import CLOCK, IDS
from statejobs.runner.crash_points import Reach, live_on
from statejobs.runner.drain import DrainResult, step
from statejobs.runner.ended import Ended
from statejobs.runner.lifespan import OpenLifespan, check_lifespan
from statejobs.runner.runner import Runner
from statejobs.runner.timekeeping import DatabaseClock, on_time
from statejobs.runner.worker import Worker
from statejobs.store import schema
from statejobs.store.engines.bound import refuse_bound, refuse_worker
from statejobs.store.engines.closing import close_for_good
from statejobs.store.engines.factory import check_async_driver, make_watch, open_engine
from statejobs.store.engines.forks import renew_in_children
from statejobs.store.engines.loops import AsyncEngines
from statejobs.store.queries import JobQueries
from statejobs.store.store import Store
from statejobs.store.timeout_index import make_missing
from statejobs.telemetry import Telemetry
from statejobs.values.clock import Sources
from statejobs.values.kinds import check_kind, check_span, check_whole, members_of
from statejobs.values.opened import Opened
from statejobs.values.queues import check_queues, join_queues, known_queues
from statejobs.values.redaction import Redaction, redaction_of
from statejobs.work.declares import Declarations
from statejobs.work.prune import Pruned, Pruner
from statejobs.work.services import services_of
from statejobs.work.sweeps.sweeper import Sweeper
from statejobs.workers import Workers

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession


class StateJobs(ByHand):
    """An app: a database, the domains whose jobs it runs, and the queues that it serves.

    As a context manager it is closed at the end.
    """

    def __init__(
        self,
        database: str | URL | Engine | Connection,
        *,
        domains: Sequence[Domain],
        queues: Mapping[str, int] | None = None,
        settings: WorkerSettings | None = None,
        retention: Retention | None = None,
        redact: Redaction | Iterable[str] | None = None,
        worker_lifespan: OpenLifespan | None = None,
        actors: ActorCodec[Any] | None = None,
        sources: Sources | None = None,
        reach: Reach = live_on,
    ) -> None:
        """Check everything, and open nothing yet.

        Args:
            database: `sqlite:///app.db`, `postgresql://user:password@host/name`, or an engine; in
                tests also a Connection, inside of whose transaction all is done, and never ended.
            domains: What it runs.
            queues: Queue → how many of its jobs one worker process runs at once; those of its
                domains come to it.
            settings: Leases, polls and graces of workers.
            retention: How long ended jobs and history are kept.
            redact: What history, errors, logs and the command line hide: words in names of
                arguments, beside the usual ones.
            worker_lifespan: Makes a context manager, sync or async, that each worker enters once,
                before its first claim, and leaves after its last job; so does `drain`. What it
                yields is had by `ctx.from_lifespan(…)`.
            actors: Writes and loads whatever acts, where that is more than a text.
            sources: Clock, ids and chance; tests pass their own.
            reach: Called at each named crash point; tests let the process die there.

        Raises:
            ConfigurationError: A database or queue that cannot be used.
            DefinitionError: A key or name is used twice over the domains.
        """
        example = 'domains=[Domain("shop", resources=[Order])]'
        domains = members_of("StateJobs: domains=", domains, example=example)
        for domain in domains:
            check_kind("StateJobs: each of domains=", domain, Domain, example=example)
        check_parts(settings=settings, retention=retention, sources=sources)
        self.queues = join_queues(queues, {d.name: d.queues for d in domains})
        check_lifespan(worker_lifespan)
        self.settings = settings or WorkerSettings()
        self.retention = retention or Retention()
        self.telemetry = Telemetry()
        self.domains = tuple(domains)
        self.redaction = redaction_of(redact)
        self.registry = Registry(self.domains, self.redaction, actors)
        self._slots = sum(self.queues.values())
        self.engine = open_engine(database, connections=self._slots)
        self._is_engine_ours = not isinstance(database, Engine | Connection)
        self.registry.check_schedules(self.engine.dialect)
        renew_in_children(self.engine)
        self.store = Store(
            self.engine,
            settings=self.settings,
            redaction=self.redaction,
            clock=sources.clock if sources else None,
        )
        self.sources = on_time(sources or Sources(), self.store, self.telemetry)
        self._watch = make_watch(self.engine, self.sources.clock.monotonic)
        self.queries = JobQueries(
            self.engine,
            Named(self.registry, self.queues, self.engine.dialect),
            self._keys_of,
            refuse_closed=self.store.refuse_closed,
        )
        self._sessions = sessionmaker(
            self.engine,
            expire_on_commit=False,
            info={CLOCK: self.sources.clock, IDS: self.sources.ids},
        )
        self._async_engines = AsyncEngines(
            self.engine, connections=self._slots, on_open=self._watch_engine
        )
        self.desk = Desk(
            registry=self.registry,
            store=self.store,
            queries=self.queries,
            sources=self.sources,
            open_session=self.session,
            queues=self.queues,
            lease=self.settings.lease,
            telemetry=self.telemetry,
        )
        self._sweeper = Sweeper(
            self.registry.timeouts,
            self.store,
            every=self.settings.sweep,
            sources=self.sources,
            telemetry=self.telemetry,
            open_session=self.session,
        )
        self._workers = Workers(
            registry=self.registry,
            store=self.store,
            sources=self.sources,
            telemetry=self.telemetry,
            settings=self.settings,
            queues=self.queues,
            desk=self.desk,
            async_engines=self._async_engines,
            watch=self._watch,
            services=services_of(
                self.registry,
                self.store,
                self.retention,
                sources=self.sources,
                telemetry=self.telemetry,
            ),
            sweeper=self._sweeper,
            open_lifespan=worker_lifespan,
            reach=reach,
            declarations=Declarations(
                self.registry, self.sources, lease=self.settings.lease
            ),
        )
        self._pruner = Pruner(
            self.registry,
            self.store,
            self.retention,
            sources=self.sources,
            telemetry=self.telemetry,
        )

    # Database

    def create_all(self) -> None:
        """Create the tables of the domains' models and of statejobs, where they are missing.

        For SQLite, demos and tests; elsewhere run `statejobs db upgrade` and your own migrations.
        """
        self.store.refuse_closed()
        schema.create_tables(self.engine)
        for metadata in self.registry.metadata:
            metadata.create_all(self.engine)
        make_missing(self.engine, self.registry.tables)

    def session(self) -> Session:
        """Return a new session on the app's database; any session of yours works as well."""
        self.store.refuse_closed()
        return self._sessions()

    def async_session(self, engine: AsyncEngine) -> AsyncSession:
        """Return a new session for asyncio, on an *engine* of yours on the app's database."""
        from statejobs.store.engines.asyncio import open_async_session  # noqa: PLC0415 - async extra

        self.store.refuse_closed()
        refuse_bound(
            self.engine, "async_session()", why="its engine has connections of its own"
        )
        return open_async_session(
            engine, {CLOCK: self.sources.clock, IDS: self.sources.ids}
        )

    def check_tables(self) -> None:
        """Raise `SchemaError` when tables of statejobs are missing or of another version.

        A `ConfigurationError` says which extra `async def` actions lack, where there are such.
        """
        self._check_async()
        self.store.refuse_closed()
        schema.check_tables(self.engine)
        self._refresh_clock()

    # Run

    def drain(
        self,
        *,
        queues: Sequence[str] | None = None,
        most: int = 10_000,
        raise_errors: bool = False,
    ) -> DrainResult:
        """Run what is queued, here, until nothing is left; retries that are not due stay.

        Records whose time in a state is over are moved first, and schedules that are due tick.

        Args:
            queues: Which queues; all of the app's by default.
            most: Attempts after which it gives up.
            raise_errors: Raise what an action raised, once its failed attempt is recorded, or
                what kept a tick from its records; for tests. Otherwise the result has the
                `tracebacks`, and the tick why.

        What is queued in queues that the app does not have is left, and counted as `unserved`.
        """
        known = known_queues("drain(queues=…)", queues, self.queues)
        check_whole("drain(most=…)", most, least=1)
        self.check_tables()
        done = self._workers.drain(known, most=most, raise_errors=raise_errors)
        return replace(done, unserved=self.queries.queued_beside(self.queues))

    def step(self, n: int = 1) -> list[Ended]:
        """Claim up to *n* jobs, run and finish each, in this thread."""
        check_whole("step(n)", n)
        self._check_async()
        with self._workers.here() as (runner, loop):
            self._refresh_clock()
            return step(runner, list(self.queues), loop, n)

    def runner(self) -> Runner:
        """Return a new engine under a node id of its own."""
        return self._workers.runner(Opened())

    def worker(
        self,
        queues: Mapping[str, int] | None = None,
        *,
        domains: Sequence[Domain | str] | None = None,
    ) -> Worker:
        """Return a worker for this process; call its `start` and `stop`.

        Args:
            queues: Queue → how many of its jobs it runs at once; those of the app by default.
            domains: Of which domains it claims jobs, each given itself or by its name; of all by
                default. Jobs of others wait in the same queues for other workers.

        Raises:
            ConfigurationError: A queue or domain that cannot be used, or is not of this app.
        """
        self.store.refuse_closed()
        keys = None if domains is None else self.registry.keys_in(domains)
        refuse_worker(self.engine)
        served = check_queues(self.queues if queues is None else queues)
        self.check_tables()
        return self._workers.worker(served, keys)

    @contextmanager
    def running(self) -> Iterator[Worker]:
        """Run a worker in threads of this process; no signal is touched."""
        worker = self.worker()
        worker.start()
        try:
            yield worker
        finally:
            worker.stop()

    @asynccontextmanager
    async def lifespan(self, _app: object = None) -> AsyncIterator[None]:
        """Run a worker beside an asyncio program, for instance as the lifespan of FastAPI."""
        worker = await asyncio.to_thread(self.worker)
        await asyncio.to_thread(worker.start)
        try:
            yield
        finally:
            await asyncio.to_thread(worker.stop)

    # End

    def close(self) -> None:
        """Stop the workers that run here, and close the connections.

        Those of an engine of yours stay open, but for the few that workers had beside its pool.
        The app cannot be used again: whatever asks it raises `ClosedError`. Sessions that are open
        keep their connection until they end.
        """
        self._workers.stop()
        if self.store.is_closed:
            return
        self.store.close()
        if self._watch is not None:
            self._watch.close()
        if self._is_engine_ours:
            close_for_good(self.engine)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.close()

    # People: see also `ByHand`

    def prune(
        self, *, older_than: timedelta | None = None, dry_run: bool = False
    ) -> Pruned:
        """Delete ended jobs and history that are older than the app's `retention` keeps them.

        Workers do so by themselves, every minute. Jobs whose record still rests in the failed
        state of its action stay, since a retry continues them.

        Args:
            older_than: Delete every ended job that old, whatever `retention` says; no history.
            dry_run: Only count.
        """
        check_span("prune(older_than=…)", older_than, or_none=True)
        self.check_tables()
        chosen = (
            self.retention if older_than is None else Retention.older_than(older_than)
        )
        return self._pruner.prune(chosen, dry_run=dry_run)

    # The same for asyncio

    drain_async = Awaited(drain)
    close_async = Awaited(close)
    prune_async = Awaited(prune)

    # Wiring

    def _check_async(self) -> None:
        if self.registry.is_async:
            check_async_driver(self.engine)

    def _refresh_clock(self) -> None:
        if isinstance(self.sources.clock, DatabaseClock):
            self.sources.clock.refresh()

    def _keys_of(self, resource: str) -> list[str] | None:
        """Return the keys of the jobs of *resource*, if its history names those that completed."""
        model = self.registry.resources.get(resource)
        if model is None or not model.has_history:
            return None
        if not self.retention.keeps_history_of_completed:
            return None
        return self.registry.keys_of(model.name)

    def _watch_engine(self, engine: Engine) -> None:
        """Notice what becomes of the connections of another *engine* on the database."""
        self.store.witness.include(engine)
        if self._watch is not None:
            self._watch.include(engine)
