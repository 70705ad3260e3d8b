"""Things that are picked by ticks: by their age, in each way in which a trigger may pick them."""

from contextlib import contextmanager
from datetime import datetime, timedelta
from enum import StrEnum
from types import SimpleNamespace
from uuid import UUID, uuid4

from sqlalchemy import select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    Trigger,
    Unique,
    UtcDateTime,
    ago,
    everything,
    state_column,
    transition,
)
from statejobs.store.schedules import add_tick
from statejobs.store.tables import jobs, ticks
from statejobs.work.schedules.pager import Pager
from tests.support.clock import NOON, ManualClock, manual_sources
from tests.support.parcels import close_app

HOURLY = "0 * * * *"
OLD = NOON - timedelta(hours=30)
"""When what is due was put there."""


class Base(DeclarativeBase):
    """The user's base."""


class S(StrEnum):
    ON = "on"
    ASIDE = "aside"
    CALLED = "called"
    OFF = "off"


script = SimpleNamespace(body=lambda _thing, _ctx: None, args=lambda _thing: {})
"""What actions do, and what `args=` makes of a record."""


def reset():
    script.body = lambda _thing, _ctx: None
    script.args = lambda _thing: {}


class Common:
    """What everything on a shelf has."""

    n: Mapped[int] = mapped_column(default=0)
    put_at: Mapped[datetime] = mapped_column(UtcDateTime, default=OLD)
    state: Mapped[S] = state_column(S, initial=S.ON)

    @transition(S.ON, S.ASIDE)
    def put_aside(self) -> None: ...

    @transition(S.ASIDE, S.ON)
    def put_back(self) -> None: ...


class Jar(Common, StatefulResource, Base):
    """Picked by its age, and on demand."""

    __tablename__ = "jars"
    id: Mapped[int] = mapped_column(primary_key=True)
    clear = Trigger.hybrid(
        "jar.clear",
        cron=HOURLY,
        where=lambda: (Jar.n < 6) & (Jar.put_at < ago(hours=24)),
        max_attempts=2,
        default_actor="system:shelf",
        tags=["tidy"],
        meta={"by": "clock"},
    )

    @transition(S.ON, S.CALLED, run_trigger=clear)
    def call(self) -> None: ...

    @clear.action([S.ON, S.CALLED], S.OFF)
    def do_clear(self, ctx: JobContext) -> None:
        script.body(self, ctx)


class Tin(Common, StatefulResource, Base):
    """At most three of a tick, the fullest first; over an hour."""

    __tablename__ = "tins"
    id: Mapped[int] = mapped_column(primary_key=True)
    clear = Trigger.scheduled(
        "tin.clear",
        cron=HOURLY,
        where=everything,
        limit=3,
        order_by=lambda cls: [cls.n.desc()],
    )

    @clear.action(S.ON, S.OFF)
    def do_clear(self, ctx: JobContext) -> None: ...


class Box(Common, StatefulResource, Base):
    """In small pages, at most seven of a tick, spread over an hour."""

    __tablename__ = "boxes"
    id: Mapped[int] = mapped_column(primary_key=True)
    clear = Trigger.scheduled(
        "box.clear",
        cron=HOURLY,
        where=everything,
        batch=2,
        limit=7,
        spread=timedelta(hours=1),
    )

    @clear.action(S.ON, S.OFF)
    def do_clear(self, ctx: JobContext) -> None: ...


class Cup(Common, StatefulResource, Base):
    """Its jobs are made of it, and belong to whom it belongs."""

    __tablename__ = "cups"
    __tenant__ = "owner"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    owner: Mapped[int] = mapped_column(default=7)
    clear = Trigger.scheduled(
        "cup.clear",
        cron=HOURLY,
        where=everything,
        args=lambda cup: {**script.args(cup)},
    )

    @clear.action(S.ON, S.OFF)
    def do_clear(self, ctx: JobContext, size: int = 0) -> None: ...


class Jug(Common, StatefulResource, Base):
    """A key of two columns, one of them text; an owner who is a UUID."""

    __tablename__ = "jugs"
    __tenant__ = "owner"
    shelf: Mapped[str] = mapped_column(primary_key=True)
    place: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[UUID | None]
    clear = Trigger.scheduled(
        "jug.clear", cron=HOURLY, where=everything, batch=2, args={"size": 3}
    )

    @clear.action(S.ON, S.OFF)
    def do_clear(self, ctx: JobContext, size: int) -> None: ...


class Pot(Common, StatefulResource, Base):
    """At most once a day; it was picked under another key before."""

    __tablename__ = "pots"
    id: Mapped[str] = mapped_column(primary_key=True)
    clear = Trigger.hybrid(
        "pot.clear",
        aliases=["pot.empty"],
        cron=HOURLY,
        where=lambda cls: cls.n < 6,
        unique=Unique(period=timedelta(days=1)),
    )

    @clear.action(S.ON)
    def do_clear(self, ctx: JobContext) -> None:
        script.body(self, ctx)


KINDS = (Jar, Tin, Box, Cup, Jug, Pot)
SHELF = Domain("shelf", resources=KINDS)


@contextmanager
def shelf(database_url, **options):
    """An app on *database_url* whose clock stands at noon."""
    app = StateJobs(
        database_url, domains=[SHELF], sources=manual_sources(ManualClock()), **options
    )
    app.create_all()
    try:
        yield app
    finally:
        close_app(app)
        reset()


def put(app, cls, *rows):
    """Add records, of dicts; return their keys as jobs name them."""
    with app.session() as session:
        made = [cls(**row) for row in rows]
        session.add_all(made)
        session.commit()
        return [cls.__statejobs__.record_id(one) for one in made]


def begin(app, key, at=None, **values):
    """Begin a tick, as the ticker does."""
    now = app.sources.clock.now()
    row = {"key": key, "at": at or now, "began_at": now, **values}
    with app.engine.begin() as connection:
        assert add_tick(connection, row)


def pager_of(app):
    return Pager(app.registry, app.store, sources=app.sources, telemetry=app.telemetry)


def tick(app, key):
    """Begin a tick and write its pages; return it."""
    begin(app, key)
    return write_pages(app, key)


def write_pages(app, key):
    pager = pager_of(app)
    while pager.run_once():
        pass
    return last_tick(app, key)


def last_tick(app, key):
    query = select(ticks).where(ticks.c.key == key).order_by(ticks.c.at.desc())
    with app.engine.connect() as connection:
        return connection.execute(query).first()


def jobs_of(app, key):
    """The jobs of *key*, in the order in which they were made."""
    query = select(jobs).where(jobs.c.key == key).order_by(jobs.c.id)
    with app.engine.connect() as connection:
        return connection.execute(query).all()


def picked(app, key):
    """The records of the jobs of *key*."""
    return [job.record_id for job in jobs_of(app, key)]


def set_jobs(app, key, record_id=None, /, **values):
    """Write into jobs what nothing of ours would."""
    query = update(jobs).where(jobs.c.key == key).values(**values)
    if record_id is not None:
        query = query.where(jobs.c.record_id == record_id)
    with app.engine.begin() as connection:
        connection.execute(query)
