"""Resources whose actions do what a test says, and apps that run them."""

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import SimpleNamespace

from sqlalchemy import ForeignKey, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from statejobs import (
    AsyncJobContext,
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    Trigger,
    UtcDateTime,
    WorkerSettings,
    state_column,
    transition,
)
from statejobs.runner.port import Ending
from statejobs.store.tables import attempts, jobs, transitions
from tests.support.clock import ManualClock, manual_sources
from tests.support.ends import ended_as_it_says

LEASE = timedelta(seconds=30)
BACKOFF = timedelta(seconds=20)


class Base(DeclarativeBase):
    """The user's base."""


class ParcelState(StrEnum):
    PACKED = "packed"
    RETURNED = "returned"
    SENDING = "sending"
    SENT = "sent"
    LOST = "lost"
    DROPPED = "dropped"


S = ParcelState


def _nothing(*_args, **_kwargs):
    """What an action does when the test does not care."""


async def _nothing_async(*_args, **_kwargs):
    """As `_nothing`, for asyncio."""


script = SimpleNamespace()
"""What the actions do: `script.send = lambda parcel, ctx: …`; `reset_script()` forgets it."""


def reset_script():
    """Let every action do nothing."""
    script.send = script.weigh = script.seal = script.tell = _nothing
    script.fetch = _nothing_async
    script.may_send = lambda _parcel: True
    script.upcast = lambda old: old


reset_script()


def _mend_arguments(old):
    return script.upcast(old)


@dataclass(frozen=True)
class Label:
    text: str
    copies: int = 1


class Parcel(StatefulResource, Base):
    """Sent by a `def` action with everything that an action can have."""

    __tablename__ = "parcels"

    id: Mapped[int] = mapped_column(primary_key=True)
    stamps: Mapped[int] = mapped_column(default=0)
    note: Mapped[str | None]
    sent_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    items: Mapped[list["Item"]] = relationship(
        back_populates="parcel", order_by="Item.id"
    )
    state: Mapped[ParcelState] = state_column(
        ParcelState, initial=S.PACKED, final=(S.SENT, S.DROPPED)
    )

    send = Trigger.on_demand(
        "parcel.send",
        aliases=["parcel.post"],
        max_attempts=3,
        max_crashes=2,
        backoff=BACKOFF,
        timeout=None,
    )

    def may_send(self) -> bool:
        """The post is closed."""
        return script.may_send(self)

    @send.action(
        [S.PACKED, S.RETURNED], S.SENT, during=S.SENDING, failed=S.LOST, guard=may_send
    )
    def send_off(self, ctx: JobContext) -> None:
        script.send(self, ctx)

    @send.on_discard
    def tell(self, session: Session, reason: str) -> None:
        script.tell(self, session, reason)

    @transition(S.LOST, S.PACKED, run_trigger=send)
    def find(self) -> None:
        """Send it again."""

    @transition([S.PACKED, S.RETURNED, S.SENDING, S.LOST], S.DROPPED)
    def drop(self) -> None:
        """Forget about it, even while it is sent."""

    @transition(S.SENDING, S.RETURNED)
    def bounce(self) -> None:
        """Back in a source while its job runs."""


class Item(Base):
    """A plain child of a parcel."""

    __tablename__ = "items"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    parcel_id: Mapped[int] = mapped_column(ForeignKey("parcels.id"))
    parcel: Mapped[Parcel] = relationship(back_populates="items")


class LetterState(StrEnum):
    OPEN = "open"
    SEALING = "sealing"
    SEALED = "sealed"
    TORN = "torn"


class Letter(StatefulResource, Base):
    """Typed arguments; an atomic action; actions without `during` and `failed`."""

    __tablename__ = "letters"

    id: Mapped[int] = mapped_column(primary_key=True)
    grams: Mapped[int] = mapped_column(default=0)
    state: Mapped[LetterState] = state_column(
        LetterState, initial=LetterState.OPEN, final=(LetterState.SEALED,)
    )

    weigh = Trigger.on_demand(
        "letter.weigh", max_attempts=2, backoff=BACKOFF, upcast=_mend_arguments
    )
    seal = Trigger.on_demand("letter.seal", max_attempts=2, backoff=BACKOFF)

    @weigh.action(LetterState.OPEN, LetterState.OPEN)
    def put_on_scale(self, ctx: JobContext, label: Label | None = None) -> None:
        """Rests in its source: may be asked for again and again."""
        script.weigh(self, ctx, label)

    @seal.action(
        LetterState.OPEN,
        LetterState.SEALED,
        during=LetterState.SEALING,
        failed=LetterState.TORN,
        atomic=True,
    )
    def press(self, ctx: JobContext) -> None:
        script.seal(self, ctx)

    @transition(LetterState.TORN, LetterState.OPEN)
    def mend(self) -> None: ...

    @transition([LetterState.OPEN, LetterState.SEALING], LetterState.TORN)
    def tear(self) -> None: ...


class MessageState(StrEnum):
    WANTED = "wanted"
    FETCHING = "fetching"
    FETCHED = "fetched"
    MISSING = "missing"


class Message(StatefulResource, Base):
    """Fetched by an `async def` action."""

    __tablename__ = "messages"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str | None]
    state: Mapped[MessageState] = state_column(
        MessageState, initial=MessageState.WANTED, final=(MessageState.FETCHED,)
    )

    fetch = Trigger.on_demand("message.fetch", max_attempts=2, backoff=BACKOFF)

    @fetch.action(
        MessageState.WANTED,
        MessageState.FETCHED,
        during=MessageState.FETCHING,
        failed=MessageState.MISSING,
    )
    async def get(self, ctx: AsyncJobContext) -> None:
        await script.fetch(self, ctx)

    @transition(MessageState.MISSING, MessageState.WANTED, run_trigger=fetch)
    def look_again(self) -> None: ...


POST = Domain("post", resources=[Parcel, Letter, Message])


@contextmanager
def post_office(url, *, clock=None, prefix="", settings=None, sources=None, **options):
    """An app on *url* with its tables, on a clock that the test moves; closed at the end."""
    app = StateJobs(
        url,
        domains=[POST],
        settings=settings
        or WorkerSettings(lease=LEASE, timeout_grace=timedelta(seconds=0.2)),
        sources=sources or manual_sources(clock or ManualClock(), prefix=prefix),
        **options,
    )
    try:
        app.create_all()
        yield app
    finally:
        close_app(app)


def close_app(app):
    """Close every connection of *app*."""
    app.close()
    app.engine.dispose()  # one that the test made


def run_async(app, claim):
    """Run a claimed job of an `async def` body, as a drain does."""
    with app._workers.here() as (runner, loop):
        return loop.run(runner.run_async(claim))


def run_together(runner, claims):
    """Run *claims*, which are of one kind, in one call; return how each ended."""
    return [
        runner.finisher.finish(result) if isinstance(result, Ending) else result
        for result in runner.attempts.run(claims)
    ]


def add(app, *records):
    """Commit *records* and return the key of the first."""
    with app.session() as session:
        session.add_all(records)
        session.commit()
        return records[0].id


def enqueue(app, kind, action, number=1, *, priority=None, delay=None, **args):
    """Commit *number* records of *kind*, each with a job of *action*; return their keys."""
    with app.session() as session:
        records = [kind() for _ in range(number)]
        session.add_all(records)
        session.flush()
        getattr(kind, action).options(priority=priority, delay=delay).enqueue_many(
            session, records, **args
        )
        session.commit()
        return [record.id for record in records]


def send(app, number=1, **options):
    """Commit *number* parcels with a job each; return their keys."""
    return enqueue(app, Parcel, "send_off", number, **options)


def fire(app, kind, key, name):
    """Fire a transition of a committed record, as a user does."""
    with app.session() as session:
        getattr(session.get_one(kind, key), name)()
        session.commit()


def state_of(app, kind, key):
    """The state of a record as committed, as text."""
    with app.session() as session:
        return session.get_one(kind, key).state.value


def load(app, kind, key):
    """A record as committed."""
    with app.session() as session:
        return session.get_one(kind, key)


def job_of(app, kind, key):
    """The newest job of a record."""
    (job, *_) = app.queries.jobs(resource=kind.__name__, record_id=str(key))
    return job


def steps(app, kind, key):
    """History of a record: (name, source, target), oldest first."""
    rows = app.queries.transitions(kind.__name__, str(key))
    return [
        (row["name"].removeprefix("send_off."), row["source"], row["target"])
        for row in rows
    ]


def attempts_of(app, kind, key):
    """Attempts of the newest job that did not complete: (attempt, outcome, error type)."""
    rows = app.queries.attempts(job_of(app, kind, key).id)
    return [(row["attempt"], row["outcome"], row["error_type"]) for row in rows]


def contradictions(app, kinds=(Parcel, Letter, Message)):
    """What records, jobs and history say against each other; empty in a sound database."""
    found = []
    with app.session() as session:
        records = [r for kind in kinds for r in session.scalars(select(kind))]
        rows = session.execute(select(jobs)).all()
        past = session.execute(select(transitions).order_by(transitions.c.id)).all()
        tried = session.execute(select(attempts)).all()
    by_record = {}
    for row in rows:
        by_record.setdefault((row.resource, row.record_id), []).append(row)
        if (row.state == "processing") != (row.token is not None):
            found.append(f"job {row.id} is {row.state} with token {row.token}")
        if (row.state in {"completed", "cancelled", "discarded"}) != (
            row.finished_at is not None
        ):
            found.append(f"job {row.id} is {row.state}, finished at {row.finished_at}")
        if not ended_as_it_says(row):
            found.append(f"job {row.id} is {row.state}, and ended as {row.outcome}")
    for record in records:
        name, key = type(record).__name__, str(record.id)
        walked = [r for r in past if (r.resource, r.record_id) == (name, key)]
        found += _broken_walk(f"{name} {key}", walked, record)
        running = [r for r in by_record.get((name, key), ()) if r.state == "processing"]
        is_during = record.state.value in _states_of_running(type(record))
        stuck = [r for r in by_record.get((name, key), ()) if _is_stuck(r)]
        if is_during and not running and not stuck:
            found.append(f"{name} {key} is {record.state} without a running job")
        if len(running) > 1 and len({r.key for r in running}) < len(running):
            found.append(f"{name} {key} runs twice")
    seen = [(row.job_id, row.attempt, row.outcome) for row in tried]
    found += [
        f"attempt {one} is told twice" for one in set(seen) if seen.count(one) > 1
    ]
    return found


def _states_of_running(kind):
    return {bound.during for bound in kind.__statejobs__.triggers.values()} - {None}


def _is_stuck(job):
    return job.state == "discarded" and job.reason.startswith("stuck: ")


def _broken_walk(label, walked, record):
    state, versions = None, [row.version for row in walked]
    for row in walked:
        if row.source != state:
            yield f"{label}: {row.name} starts in {row.source}, history was in {state}"
        state = row.target
    if walked and (state, versions[-1]) != (record.state.value, record.state_version):
        yield f"{label}: history ends {state}/{versions[-1]}, it is {record.state}/{record.state_version}"  # noqa: E501
    left = [row.source != row.target for row in walked]
    if any(
        b - a < is_left
        for a, b, is_left in zip(versions, versions[1:], left[1:], strict=False)
    ):
        yield f"{label}: versions {versions}"
