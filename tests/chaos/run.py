"""One run: workers, submitters and people at work, faults by the seed, then the verdict."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from random import Random

from sqlalchemy import URL, Engine, and_, func, make_url, select
from sqlalchemy.exc import SQLAlchemyError

from statejobs import StateJobs
from statejobs.store.engines.factory import open_engine
from statejobs.store.tables import jobs, nodes
from statejobs.values.job import LIVE, JobState
from tests.chaos.app import LEASE, LEDGER, RESOURCES, Does, Errand, State, make_app
from tests.chaos.disk import Disk, make_disk
from tests.chaos.faults import inflict
from tests.chaos.field import Field
from tests.chaos.fleet import ROOT, Fleet, Post, now, wait_until
from tests.chaos.limits import make_role
from tests.chaos.people import People
from tests.chaos.plan import Fault, Plan
from tests.chaos.pooler import Pooler, find_pooler
from tests.chaos.proxy import Proxy
from tests.chaos.report import Report
from tests.chaos.sampler import Sampler
from tests.chaos.standby import Standby
from tests.chaos.verifier import (
    IS_OURS,
    count_jobs,
    find_false_rescues,
    find_late,
    find_reclaims,
    read_lines,
    verify,
)
from tests.support.postgres import PostgresServer

_NO_TLS = {"sslmode": "disable", "gssencmode": "disable"}  # the proxy reads along


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a run takes place."""

    direct: str
    """URL that no fault but those of the database itself reaches."""
    urls: Sequence[str]
    """What workers and submitters use, in turn."""
    server: PostgresServer | None = None
    standby: Standby | None = None
    proxy: Proxy | None = None
    disk: Disk | None = None

    def url(self, number: int) -> str:
        """Return the URL of the worker or submitter with this number."""
        return self.urls[number % len(self.urls)]


def run(plan: Plan, *, seed: int, directory: Path, say=print) -> Report:
    """Do it, and return what was found.

    Args:
        plan: How much of what.
        seed: Decides everything that chance decides here (the machine decides the rest).
        directory: For logs and SQLite.
        say: Told how far it is.
    """
    began = time.monotonic()
    os.environ |= {LEASE: str(plan.lease), LEDGER: str(directory / "ledger")}
    with ExitStack() as stack:
        place = stack.enter_context(_open_place(plan, directory))
        app = make_app(place.direct)
        app.create_all()
        stack.callback(app.engine.dispose)
        engine = stack.enter_context(_own_engine(place.direct))
        field = Field(
            app=app,
            plan=plan,
            fleet=_fleet(plan, place, directory),
            engine=engine,
            rng=Random(f"{seed}:faults"),
            server=place.server,
            standby=place.standby,
            proxy=place.proxy,
            disk=place.disk,
        )
        stack.callback(field.fleet.end)
        sampler = Sampler(
            app, engine, every=plan.sample_every, window=plan.sample_window
        )
        people = People(app, Random(f"{seed}:people"), every=0.1, cancels=0.2)
        submitters = _start_submitters(plan, place, directory, seed)
        for process in submitters:
            stack.callback(_end, process)
        for thread in (sampler, people):
            thread.start()
            stack.callback(thread.stop)

        _hurt(field, say)
        heal = _heal(field)
        people.stop_cancelling()
        is_done = _finish(field, submitters, say)
        until = now()
        people.stop()
        field.fleet.end()
        sampler.stop()
        report = _judge(app, field, sampler, directory, until=until)
        report.has_finished, report.heal_seconds = is_done, heal
        report.cancelled, report.mended, report.refused = (
            people.cancelled,
            people.mended,
            people.refused,
        )
    report.seed, report.seconds = seed, time.monotonic() - began
    return report


@contextlib.contextmanager
def _open_place(plan: Plan, directory: Path) -> Iterator[Place]:
    if plan.database == "sqlite":
        folder = directory / "disk"
        folder.mkdir()
        disk = make_disk(folder)
        url = f"sqlite:///{folder / 'chaos.db'}"
        try:
            yield Place(direct=url, urls=[url], disk=disk)
        finally:
            disk.close()
        return
    with ExitStack() as stack:
        server = PostgresServer().start(durable=True)
        stack.callback(server.stop)
        server.create_database("chaos")
        direct = make_url(server.url("chaos")).update_query_dict(_NO_TLS)
        yield _before(server, direct, plan, stack)


def _before(server: PostgresServer, direct: URL, plan: Plan, stack: ExitStack) -> Place:
    """Return *server* with what stands before or beside it."""
    match plan.database:
        case "pgbouncer":
            pooler = Pooler(find_pooler())
            stack.callback(pooler.stop)
            through = direct.set(port=pooler.start(direct))
            urls = [through.update_query_dict({"prepare_threshold": "none"})]
            return Place(
                direct=_text(direct), urls=[_text(url) for url in urls], server=server
            )
        case "failover":
            standby = Standby(server).follow()
            stack.callback(standby.stop)
            both = _text(standby.beside(direct))
            return Place(direct=both, urls=[both], server=server, standby=standby)
        case _:
            proxy = Proxy()
            stack.callback(proxy.stop)
            plain = make_role(direct)
            through = plain.set(port=proxy.start(direct))
            urls = [_text(plain), _text(through)]
            return Place(direct=_text(direct), urls=urls, server=server, proxy=proxy)


def _text(url: URL) -> str:
    return url.render_as_string(hide_password=False)


@contextlib.contextmanager
def _own_engine(url: str) -> Iterator[Engine]:
    engine = open_engine(url, connections=2)
    yield engine
    engine.dispose()


def _fleet(plan: Plan, place: Place, directory: Path) -> Fleet:
    posts = [
        Post(
            number=number,
            database=place.url(number),
            version="old" if number == 0 else "new",
            processes=plan.processes,
        )
        for number in range(plan.posts)
    ]
    return Fleet(
        posts, lease=plan.lease, directory=directory, ledger=directory / "ledger"
    )


def _start_submitters(
    plan: Plan, place: Place, directory: Path, seed: int
) -> list[subprocess.Popen]:
    command = [sys.executable, "-m", "tests.chaos.submitter"]
    processes = []
    for number in range(plan.submitters):
        share = plan.jobs // plan.submitters + (number < plan.jobs % plan.submitters)
        options = [
            *(
                place.url(number + 1),
                "--seed",
                str(seed + number),
                "--count",
                str(share),
            ),
            *(
                "--seconds",
                str(plan.seconds),
                "--acks",
                str(directory / f"acks-{number}"),
            ),
        ]
        with (directory / f"submitter-{number}.log").open("wb") as log:
            processes.append(
                subprocess.Popen([*command, *options], cwd=ROOT, stdout=log, stderr=log)
            )
    return processes


def _hurt(field: Field, say) -> None:
    field.fleet.tend()
    order = field.plan.order(field.rng)
    for number, fault in enumerate(order, 1):
        field.wait(field.plan.gap * field.rng.uniform(0.5, 1.5))
        say(f"  {now():%H:%M:%S.%f} {number}/{len(order)} {fault}")
        inflict(field, fault)
    field.wake_all()


def _heal(field: Field) -> float:
    """Return after how long every claim of the bad times was over, and a job finished anew."""
    began = time.monotonic()
    tokens: set[str] | None = None
    first = _query(field, select(func.max(jobs.c.finished_at)))

    def is_healed() -> bool:
        nonlocal tokens
        running = _query(field, select(jobs.c.token).where(_RUNS))
        if running is None:
            return False
        now_running = set(running)
        tokens = now_running if tokens is None else tokens
        latest = _query(field, select(func.max(jobs.c.finished_at)))
        waits = _query(field, select(func.count()).where(IS_OURS, _IS_QUEUED))
        return not tokens & now_running and (latest != first or waits == [0])

    wait_until(is_healed, within=600, tend=field.tend)
    return time.monotonic() - began


def _finish(field: Field, submitters: list[subprocess.Popen], say) -> bool:
    """Let everything run out; False when it did not in time."""
    live = select(func.count()).where(
        jobs.c.state.in_([state.value for state in LIVE]), IS_OURS
    )
    said = 0.0

    def is_done() -> bool:
        nonlocal said
        left = _query(field, live)
        if time.monotonic() - said > 10:
            said = time.monotonic()
            say(f"  finishing: {left[0] if left else '?'} live jobs")
        is_idle = left == [0] and all(
            process.poll() is not None for process in submitters
        )
        return is_idle and _query(field, _left_to_people()) == [0]

    return wait_until(is_done, within=field.plan.patience, tend=field.tend)


def _left_to_people():
    """How many records have failed, or wait for a job that could not be read."""
    conditions = [resource.state == State.FAILED for resource in RESOURCES]
    conditions.append(and_(Errand.does == Does.UNREAD, Errand.state == State.QUEUED))
    counts = [select(func.count()).where(one).scalar_subquery() for one in conditions]
    return select(sum(counts))


def _judge(
    app: StateJobs, field: Field, sampler: Sampler, directory: Path, *, until: datetime
) -> Report:
    acks = [line for file in directory.glob("acks-*") for line in read_lines(file)]
    with field.engine.connect() as connection:
        verdict = verify(
            connection,
            app,
            acks=acks,
            ledger=read_lines(directory / "ledger"),
            until=until,
        )
        if field.plan.database == "ticks":
            verdict.illegal += find_late(verdict.lags)
        killed = _killed_nodes(connection, field.fleet.kills)
        if set(field.plan.faults) <= _HARMLESS_TO_LIVE_WORKERS:
            verdict.illegal += find_false_rescues(connection, killed)
        report = Report(
            plan=field.plan,
            faults={str(fault): count for fault, count in sorted(field.done.items())},
            verdict=verdict,
            counts=count_jobs(connection),
            reclaims=find_reclaims(
                connection, app, killed, [*field.away, *field.deserted]
            ),
        )
    verdict.illegal += field.illegal
    said = field.fleet.logs()
    report.late = said.count("late result of job")
    if "database is locked" in said:
        verdict.illegal.append("a worker said: database is locked")
    codes = [code for code in field.fleet.exit_codes if code not in {0, -15}]
    verdict.illegal += [
        f"a worker that was told to end ended with {code}" for code in codes
    ]
    if sampler.problem is not None:
        verdict.illegal.append(f"the sampler ended: {sampler.problem!r}")
    report.samples, report.missed, report.sampled = (
        sampler.samples,
        sampler.missed,
        sampler.found,
    )
    report.cuts = field.proxy.cuts if field.proxy else 0
    report.resume_seconds, report.starts = field.resume_seconds, field.fleet.starts
    report.how_disk = field.disk.how if field.disk else ""
    return report


def _killed_nodes(connection, kills: dict[int, datetime]) -> dict[str, datetime]:
    rows = connection.execute(select(nodes.c.pid, nodes.c.id, nodes.c.started_at))
    return {
        id_: kills[pid] for pid, id_, at in rows if pid in kills and at < kills[pid]
    }


def _query(field: Field, query) -> list | None:
    """Return the first column; None while the database is away."""
    try:
        with field.engine.connect() as connection:
            return list(connection.scalars(query))
    except SQLAlchemyError:
        return None


def _end(process: subprocess.Popen) -> None:
    process.terminate()
    process.wait()


_HARMLESS_TO_LIVE_WORKERS = {
    Fault.SKEW,
    Fault.KILL,
    Fault.STORM,
    Fault.REFUSAL,
    Fault.FOREIGN,
    Fault.TAKEN,
    Fault.UNREADABLE,
}
_IS_QUEUED = jobs.c.state == JobState.QUEUED.value
_RUNS = jobs.c.state == JobState.PROCESSING.value
