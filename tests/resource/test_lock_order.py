"""Whoever locks records 2 and 10, or their jobs, does so in one order: nobody waits in a circle."""

import itertools
import threading
import uuid
from collections import deque
from datetime import timedelta
from enum import StrEnum

import pytest
from sqlalchemy import (
    ARRAY,
    Column,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    Text,
    cast,
    event,
    func,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    ChunkContext,
    Domain,
    JobContext,
    StaleTransitionError,
    StatefulResource,
    StateJobs,
    Trigger,
    state_column,
    transition,
)
from statejobs.runner.calls import calls_of, pop_call
from statejobs.store.lock_order import (
    in_job_order,
    in_key_order,
    job_order,
    key_order,
    place_of,
)
from tests.support.parcels import run_together
from tests.support.size import size


class Base(DeclarativeBase):
    """The user's base."""


class S(StrEnum):
    REST = "rest"
    GONE = "gone"


class Shelf(Base):
    """What boxes stand on: a parent that is no resource."""

    __tablename__ = "shelves"

    id: Mapped[int] = mapped_column(primary_key=True)
    n: Mapped[int] = mapped_column(default=0)


class Common:
    n: Mapped[int] = mapped_column(default=0)
    state: Mapped[S] = state_column(S, initial=S.REST)
    count = Trigger.on_demand("{resource}.count", max_attempts=1)
    sort = Trigger.on_demand("{resource}.sort", max_attempts=1, chunk=10)
    mark = Trigger.on_demand("{resource}.mark", max_attempts=1)

    @count.action(S.REST, S.REST)
    def look(self, ctx: JobContext) -> None:
        self.n += 1

    @sort.action(S.REST, S.REST)
    @staticmethod
    def sort_all(records: list["Common"], ctx: ChunkContext) -> None:
        for record in reversed(records):
            record.n += 1
        ctx.session.flush()

    @mark.action(S.REST, S.REST, atomic=True)
    def write(self, ctx: JobContext) -> None:
        self.n += 1
        ctx.session.flush()

    @transition(S.REST, S.REST, run_trigger=count)
    def touch(self) -> None: ...

    @transition(S.REST, S.GONE)
    def leave(self) -> None: ...

    @transition(S.GONE, S.REST)
    def back(self) -> None: ...


class Box(Common, StatefulResource, Base):
    __tablename__ = "boxes"

    id: Mapped[int] = mapped_column(primary_key=True)
    shelf_id: Mapped[int] = mapped_column(ForeignKey("shelves.id"), default=1)


class Tag(Common, StatefulResource, Base):
    """Known by a text, whose order the database's language would change: B before a."""

    __tablename__ = "a_tags"  # before "boxes" by name, after it by what refers to what

    id: Mapped[str] = mapped_column(primary_key=True)
    box_id: Mapped[int] = mapped_column(ForeignKey("boxes.id"), default=2)


ROUNDS = size(1, 5)
KEYS = {Box: (2, 10), Tag: ("B", "a")}


@pytest.fixture(scope="module")
def postgres(postgres_server):
    """A database in which each write of a record or job takes a while; one for all pairs."""
    name = f"lock_order_{uuid.uuid4().hex}"
    postgres_server.create_database(name)
    app = StateJobs(
        postgres_server.url(name),
        domains=[Domain("d", resources=[Box, Tag])],
        queues={"default": 1},
    )
    app.create_all()
    Base.metadata.create_all(app.engine)
    with app.engine.begin() as connection:
        connection.execute(
            text(
                "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
                "'BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END'"
            )
        )
        for table in ("boxes", "a_tags", "shelves", "statejobs_jobs"):
            connection.execute(
                text(
                    f"CREATE TRIGGER slow AFTER INSERT OR UPDATE ON {table} "
                    "FOR EACH ROW EXECUTE FUNCTION slow()"
                )
            )
    with app.session() as session:
        session.add(Shelf(id=1))
        session.flush()
        session.add_all([Box(id=2), Box(id=10)])
        session.flush()
        session.add_all([Tag(id="B"), Tag(id="a")])
        session.commit()
    yield app
    app.engine.dispose()
    postgres_server.drop_database(name)


@pytest.fixture
def app(postgres):
    """The same, with every record at rest and a job of each waiting."""
    with postgres.engine.begin() as connection:
        for name in ("jobs", "attempts", "transitions"):
            connection.execute(text(f"DELETE FROM statejobs_{name}"))
        for table in ("boxes", "a_tags"):
            connection.execute(text(f"UPDATE {table} SET state = 'rest'"))
    with postgres.session() as session:
        for kind in KEYS:
            kind.look.options(delay=timedelta(hours=1)).enqueue_many(
                session, session.scalars(select(kind)).all()
            )
        session.commit()
    return postgres


def both(session, kind):
    """Both records of a kind, loaded in the wrong order."""
    return [session.get_one(kind, key) for key in reversed(KEYS[kind])]


def fires(session, kind):
    for record in both(session, kind):
        record.touch()


def edits(session, kind):
    for record in both(session, kind):
        record.n += 1


def fires_on_the_last_and_edits_the_first(session, kind):
    last, first = both(session, kind)
    last.touch()
    first.n += 1


def fires_on_the_first_and_edits_the_last(session, kind):
    last, first = both(session, kind)
    first.touch()
    last.n += 1


def fires_on_one_and_edits_what_it_refers_to(session, kind):
    last, _ = both(session, kind)
    # else they flush what was fired
    shelf, boxes = (
        session.get_one(Shelf, 1),
        both(session, Box),
    )
    last.touch()
    for edited in (shelf, *boxes):
        edited.n += 1


def leaves(session, kind):
    for record in both(session, kind):
        record.leave()
    session.flush()
    for record in both(session, kind):
        record.back()


def fires_on_all(session, _kind):
    for record in (*both(session, Tag), *both(session, Box)):
        record.touch()


def enqueues_many(session, kind):
    kind.look.enqueue_many(session, both(session, kind))


def enqueues_and_then_edits(session, kind):
    last, first = both(session, kind)
    kind.look.enqueue(session, first)
    first.n += 1
    session.flush()
    kind.look.enqueue(session, last)
    last.n += 1


def moves_in_bulk(session, kind):
    kind.touch.bulk(session, where=kind.id.in_(KEYS[kind]))


def leaves_in_bulk(session, kind):
    kind.leave.bulk(session, where=kind.id.in_(KEYS[kind]))
    kind.back.bulk(session, where=kind.id.in_(KEYS[kind]))


def locks_by_a_read(session, kind):
    session.scalars(
        select(kind)
        .order_by(kind.id.collate("C") if kind is Tag else kind.id)
        .with_for_update()
    ).all()


PEOPLE = (
    fires,
    edits,
    fires_on_the_last_and_edits_the_first,
    fires_on_the_first_and_edits_the_last,
    fires_on_one_and_edits_what_it_refers_to,
    leaves,
    fires_on_all,
    enqueues_many,
    enqueues_and_then_edits,
    moves_in_bulk,
    leaves_in_bulk,
    locks_by_a_read,
)


def one_after_the_other(app, kind):
    with app.session() as session:
        kind.look.enqueue_many(session, both(session, kind))
        session.commit()
    app.drain()


def in_one_call(app, kind):
    with app.session() as session:
        kind.sort_all.enqueue_many(session, both(session, kind))
        session.commit()
    app.drain()


def in_one_transaction(app, kind):
    with app.session() as session:
        kind.write.enqueue_many(session, both(session, kind))
        session.commit()
    claims = app.runner().claim("default", limit=5)
    atomic = [claim for claim in claims if claim.job.key.endswith("mark")]
    if atomic:
        run_together(app.runner(), pop_call(deque(calls_of(atomic)), most=100))
    for claim in claims:
        if claim not in atomic:
            app.runner().run(claim)


WORKERS = (one_after_the_other, in_one_call, in_one_transaction)


def cancels_what_waits(app, kind):
    app.select(resource=kind, state=["scheduled", "queued"]).cancel()


def retries_all(app, kind):
    app.select(resource=kind).retry()


def deletes_all(app, kind):
    app.select(resource=kind).delete()


SELECTING = (cancels_what_waits, retries_all, deletes_all)


def run(app, operation, kind, barrier, troubles):
    for _ in range(ROUNDS):
        barrier.wait(60)
        try:
            if operation in {*WORKERS, *SELECTING}:
                operation(app, kind)
            else:
                with app.session() as session:
                    operation(session, kind)
                    session.commit()
        except StaleTransitionError as error:
            if "another transaction is changing" in str(error):  # ended by the database
                troubles.append(f"{operation.__name__}: {error}")
        except DBAPIError as error:
            troubles.append(f"{operation.__name__}: {error.orig}")


def deadlocks_of(app):
    with app.engine.connect() as connection:
        found = connection.execute(
            text(
                "SELECT outcome, message FROM statejobs_attempts WHERE message LIKE '%deadlock%'"
            )
        )
        return [tuple(row) for row in found]


ORDERED_BY_KEY = (
    fires,
    edits,
    enqueues_many,
    moves_in_bulk,
    locks_by_a_read,
    in_one_call,
)
PAIRS = [
    (kind, *pair)
    for kind, operations in ((Box, (*PEOPLE, *WORKERS)), (Tag, ORDERED_BY_KEY))
    for pair in itertools.combinations_with_replacement(operations, 2)
]
PAIRS += [
    (Box, *pair)
    for pair in (
        *itertools.combinations_with_replacement(SELECTING, 2),
        *itertools.product(
            SELECTING, (fires, leaves, enqueues_many, moves_in_bulk, in_one_call)
        ),
    )
]


@pytest.mark.parametrize(
    ("kind", "one", "other"), PAIRS, ids=lambda given: given.__name__
)
def test_two_that_lock_the_same_records_and_jobs_never_deadlock(app, kind, one, other):
    barrier, troubles = threading.Barrier(2), []
    threads = [
        threading.Thread(target=run, args=[app, operation, kind, barrier, troubles])
        for operation in (one, other)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert troubles == []
    assert deadlocks_of(app) == []


# The order ---------------------------------------------------------------------------------------


TEXTS = ["a", "B", "ä", "Z", "10", "2", "é", "", "aa", "A", "ß", "日"]
JOBS = [f"box.count:{number}" for number in (1, 2, 9, 10, 11, 100)] + ["a.b:7", "z:70"]


def sorted_by_the_database(app, texts, order):
    given = select(func.unnest(texts).label("x")).subquery()
    with app.engine.connect() as connection:
        return list(connection.scalars(select(given.c.x).order_by(*order(given.c.x))))


def test_the_database_sorts_text_keys_as_the_unit_of_work_does(postgres):
    found = sorted_by_the_database(
        postgres, cast(TEXTS, ARRAY(Text)), lambda x: in_key_order([x], "postgresql")
    )

    order = key_order([Tag.__table__.c.id])
    assert found == [key for (key,) in sorted(((text,) for text in TEXTS), key=order)]


def test_the_database_sorts_jobs_as_python_does(postgres):
    found = sorted_by_the_database(
        postgres, cast(JOBS, ARRAY(Text)), lambda x: in_job_order(x, "postgresql")
    )

    assert found == sorted(JOBS, key=job_order)


def test_tables_that_others_refer_to_come_first():
    tables = [Tag.__table__, Box.__table__, Shelf.__table__]

    assert sorted(tables, key=place_of) == tables[::-1]


def test_tables_that_refer_to_each_other_have_a_place():
    metadata = MetaData()
    left = Table(
        "left", metadata, Column("id", Integer), Column("r", ForeignKey("right.id"))
    )
    right = Table(
        "right", metadata, Column("id", Integer), Column("l", ForeignKey("left.id"))
    )
    Table(
        "alone", metadata, Column("id", Integer), Column("n", ForeignKey("nowhere.id"))
    )

    assert place_of(left) < place_of(right)
    assert place_of(metadata.tables["alone"]) == (1, "alone")


def test_a_flush_that_moves_what_comes_first_anyway_asks_for_no_further_locks(app):
    sent = []
    with app.session() as session:
        last, first = both(session, Box)
        first.touch()
        last.n += 1
        event.listen(
            app.engine, "before_cursor_execute", lambda *args: sent.append(args[2])
        )
        session.flush()

    assert [statement for statement in sent if "FOR NO KEY UPDATE" in statement] == []
