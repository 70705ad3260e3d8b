"""Drives the engine: an app on a clock, users, and two nodes that may die at any named point."""

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from sqlalchemy import create_engine, delete, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    Cancel,
    Domain,
    JobContext,
    Snooze,
    Stale,
    StatefulResource,
    StateJobs,
    Trigger,
    WorkerSettings,
    configure_sqlite,
    state_column,
    transition,
)
from statejobs.errors import TransitionRefusedError
from statejobs.runner.keeper import HeldClaims, Keeper
from statejobs.store.engines.factory import open_engine
from statejobs.store.staging import stage_due
from statejobs.store.tables import attempts, jobs, transitions
from tests.model.model import (
    ALLOWANCE,
    BACKOFF,
    LEASE,
    MOST_CRASHES,
    MOST_SNOOZES,
    SNOOZE,
)
from tests.support.clock import NOON, ManualClock, manual_sources


class Base(DeclarativeBase): ...


class Effect(Base):
    """What an action wrote through its session."""

    __tablename__ = "effects"
    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int]


class S(StrEnum):
    NEW = "new"
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    LOST = "lost"
    GONE = "gone"


class Item(StatefulResource, Base):
    __tablename__ = "items"

    id: Mapped[int] = mapped_column(primary_key=True)
    runs: Mapped[int] = mapped_column(default=0)
    state: Mapped[S] = state_column(S, initial=S.NEW)

    work = Trigger.on_demand(
        "item.work",
        max_attempts=ALLOWANCE,
        max_crashes=MOST_CRASHES,
        max_snoozes=MOST_SNOOZES,
        backoff=timedelta(seconds=BACKOFF),
    )

    @work.action(S.WAITING, S.DONE, during=S.RUNNING, failed=S.LOST)
    def do_it(self, ctx: JobContext) -> None:
        self.runs += 1
        script.play(self, ctx)

    @transition(S.NEW, S.WAITING, run_trigger=work)
    def ask(self) -> None: ...

    @transition(S.WAITING, S.NEW)
    def take_back(self) -> None: ...

    @transition(S.RUNNING, S.WAITING, run_trigger=work)
    def bounce(self) -> None: ...

    @transition(S.WAITING, S.WAITING, run_trigger=work)
    def nudge(self) -> None: ...

    @transition(S.RUNNING, S.RUNNING)
    def watch(self) -> None: ...

    @transition([S.NEW, S.WAITING, S.RUNNING, S.LOST], S.GONE)
    def drop(self) -> None: ...

    @transition(S.LOST, S.WAITING, run_trigger=work)
    def retry(self) -> None: ...

    @transition([S.DONE, S.GONE], S.NEW)
    def reopen(self) -> None: ...


class Script:
    """What the action does: it ends as `outcome`, and writes an effect first when it `writes`."""

    outcome, writes = "complete", False

    def play(self, item, ctx):
        if self.writes:
            ctx.session.add(Effect(item_id=item.id))
            ctx.session.flush()
        match self.outcome:
            case "fail":
                raise ValueError("no luck")
            case "snooze":
                raise Snooze(seconds=SNOOZE)
            case "cancel":
                raise Cancel("never")
            case "stale":
                raise Stale("no more")


script = Script()


class Died(BaseException):
    """The process ended here; nothing of ours may catch it."""


@dataclass
class Node:
    """A worker process: its runner, what it holds, and its heartbeat."""

    runner: object
    keeper: Keeper
    held: HeldClaims
    claims: list = field(default_factory=list)


class Driver:
    """One example: the tables are emptied, the clock stands at noon, two nodes live."""

    def __init__(self, engine):
        with engine.begin() as connection:
            for table in (
                Effect.__table__,
                Item.__table__,
                attempts,
                transitions,
                jobs,
            ):
                connection.execute(delete(table))
        self.clock, self._dies_at = ManualClock(), None
        self.app = StateJobs(
            engine,
            domains=[Domain("model", resources=[Item])],
            settings=WorkerSettings(lease=timedelta(seconds=LEASE)),
            sources=manual_sources(self.clock),
            reach=self._reach,
        )
        self.nodes = [self._node(), self._node()]

    # Users ---------------------------------------------------------------------------------------

    def create(self, key):
        with self.app.session() as session:
            session.add(Item(id=key))
            session.commit()

    def transaction(self, play, *, is_kept):
        """Call *play* with a session, and commit or roll back."""
        with self.app.session() as session:
            play(session)
            session.commit() if is_kept else session.rollback()

    def cancel(self, key):
        return self._by_hand(self.app.cancel_job, key)

    def retry(self, key):
        return self._by_hand(self.app.retry_job, key)

    def _by_hand(self, call, key):
        """Return whether *call* was possible on the newest job of a record."""
        (job, *_) = self.app.queries.jobs(record_id=str(key))
        try:
            call(job.id)
        except TransitionRefusedError:
            return False
        return True

    # Nodes ---------------------------------------------------------------------------------------

    def claim(self, node, limit):
        """Return the new claims."""
        claims = node.runner.claim("default", limit=limit)
        node.held.add(claims)
        node.claims += claims
        return claims

    def run(self, node, claim, outcome, *, writes):
        self.set_script(outcome, writes=writes)
        self._put_down(node, claim)
        return node.runner.run(claim)

    def stage_due(self):
        keys = self.app.runner().work.keys()
        stage_due(self.app.store, ["default"], keys, self.clock.now())

    def step(self, n, outcome):
        self.set_script(outcome)
        return self.app.step(n)

    def set_script(self, outcome, *, writes=False):
        script.outcome, script.writes = outcome, writes

    def release(self, node, claim):
        self._put_down(node, claim)
        return node.runner.finisher.release(claim)

    def dies(self, node, point, call):
        """Let *node* die when *call* reaches *point*; return whether it did."""
        self._dies_at = point
        try:
            call()
        except Died:
            self.nodes[self.nodes.index(node)] = self._node()
            return True
        finally:
            self._dies_at = None
        return False

    def _put_down(self, node, claim):
        node.claims.remove(claim)
        node.held.remove([claim])

    def _node(self):
        runner, held = self.app.runner(), HeldClaims()
        keeper = Keeper(
            runner.store,
            held,
            node_id=runner.node_id,
            settings=runner.settings,
            sources=runner.sources,
            telemetry=runner.telemetry,
        )
        return Node(runner, keeper, held)

    def _reach(self, point):
        if point == self._dies_at:
            raise Died(point)

    # Looking -------------------------------------------------------------------------------------

    def look(self):
        """What the database says, in the words of `Model.look`."""
        with self.app.store.single() as connection:
            items = connection.execute(_ITEMS).all()
            rows = connection.execute(_JOBS).all()
            steps = connection.execute(_STEPS).all()
        return {
            item.id: _look_at(
                item,
                [row for row in rows if row.record_id == str(item.id)],
                [step for step in steps if step.record_id == str(item.id)],
            )
            for item in items
        }


_ITEMS = select(
    Item.__table__,
    select(func.count())
    .select_from(Effect)
    .where(Effect.item_id == Item.id)
    .scalar_subquery()
    .label("effects"),
).order_by(Item.id)
_JOBS = (
    select(
        jobs,
        attempts.c.id.label("tried"),
        attempts.c.attempt.label("number"),
        attempts.c.outcome.label("tried_as"),
    )
    .outerjoin(attempts, attempts.c.job_id == jobs.c.id)
    .order_by(jobs.c.id, attempts.c.id)
)
_STEPS = select(transitions).order_by(transitions.c.id)


def _look_at(item, rows, steps):
    found = list({row.id: row for row in rows}.values())
    return {
        "walk": _walk(steps, item),
        "versions": [step.version for step in steps],
        "job": _open_job(found),
        "completed": sum(row.outcome == "completed" for row in found),
        "runs": item.runs,
        "effects": item.effects,
        "tried": [(row.number, row.tried_as) for row in rows if row.tried],
    }


def _walk(steps, item):
    """The states that history tells of; what does not join up is shown as it is."""
    assert steps[-1].version == item.state_version
    assert [step.source for step in steps] == [
        None,
        *(step.target for step in steps[:-1]),
    ]
    assert steps[-1].target == item.state.value
    return [step.target for step in steps]


def _open_job(rows):
    live = [row for row in rows if row.state != "completed"]
    assert len(live) <= 1
    for row in live:
        runs = row.state == "processing"
        assert runs == (row.token is not None) == (row.owner is not None)
        return {
            "state": row.state,
            "attempt": row.attempt,
            "most": row.max_attempts,
            "crashes": row.crashes,
            "snoozes": row.snoozes,
            "ended": row.outcome,
            "again": row.run_again,
            "asked": row.cancel_requested,
            "due": _seconds(row.run_at)
            if row.state in {"scheduled", "failed"}
            else None,
            "lease": _seconds(row.lease_until) if runs else None,
            "is_ended": row.finished_at is not None,
        }
    return None


def _seconds(time):
    return (time - NOON).total_seconds()


def model_engine(url):
    """An engine on *url* with the tables; SQLite does not wait for the disk."""
    engine = open_engine(url)
    if engine.dialect.name == "sqlite":
        engine = configure_sqlite(create_engine(engine.url), synchronous="NORMAL")
    StateJobs(engine, domains=[Domain("model", resources=[Item])]).create_all()
    return engine
