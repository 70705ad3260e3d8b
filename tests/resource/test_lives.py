"""A record that gets the key of a deleted one gets nothing else of it."""

import uuid
from contextlib import contextmanager
from enum import StrEnum
from types import SimpleNamespace

import pytest
from sqlalchemy import (
    ForeignKey,
    String,
    TypeDecorator,
    Uuid,
    delete,
    event,
    insert,
    literal,
    select,
)
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from statejobs import (
    Domain,
    JobContext,
    JobState,
    StatefulResource,
    StateJobs,
    Trigger,
    state_column,
    transition,
)
from statejobs.errors import NotFoundError
from tests.support.clock import ManualClock, manual_sources
from tests.support.parcels import close_app


class Base(DeclarativeBase):
    """The user's base."""


class S(StrEnum):
    DRAFT = "draft"
    QUEUED = "queued"
    CHARGING = "charging"
    DONE = "done"
    FAILED = "failed"


script = SimpleNamespace(charge=lambda _order, _ctx: None)


class Order(StatefulResource, Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    who: Mapped[str] = mapped_column(default="")
    state: Mapped[S] = state_column(S, initial=S.DRAFT)
    charge = Trigger.on_demand("order.charge", max_attempts=2)
    bill = Trigger.on_demand("order.bill", aliases=["order.invoice"])

    @transition([S.DRAFT, S.FAILED], S.QUEUED, run_trigger=charge)
    def submit(self) -> None: ...

    @charge.action(S.QUEUED, S.DONE, during=S.CHARGING, failed=S.FAILED)
    def pay(self, ctx: JobContext) -> None:
        script.charge(self, ctx)

    @bill.action(S.DRAFT, S.DRAFT)
    def send_bill(self, ctx: JobContext, copies: int = 1) -> None:
        script.charge(self, ctx)

    lines: Mapped[list["Line"]] = relationship(cascade="all, delete-orphan")


class Line(StatefulResource, Base):
    """Has the key of its order."""

    __tablename__ = "lines"

    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), primary_key=True)
    state: Mapped[S] = state_column(S, initial=S.DRAFT)
    pack = Trigger.on_demand("line.pack")

    @transition(S.DRAFT, S.QUEUED, run_trigger=pack)
    def submit(self) -> None: ...

    @pack.action(S.QUEUED, S.DONE)
    def pack_up(self, ctx: JobContext) -> None:
        script.charge(self, ctx)


@pytest.fixture
def app(database_url):
    opened = StateJobs(
        database_url,
        domains=[Domain("shop", resources=[Order, Line])],
        sources=manual_sources(ManualClock()),
    )
    opened.create_all()
    yield opened
    close_app(opened)
    script.charge = lambda _order, _ctx: None


def lose(_order, _ctx):
    raise ConnectionError("charged, but the answer was lost")


def new(app, who, key=1, *, fire="submit"):
    with app.session() as session:
        order = Order(id=key, who=who)
        session.add(order)
        if fire:
            getattr(order, fire)()
        session.commit()


def delete_in_sql(app):
    """As it is done past the ORM: nobody hears of it."""
    with app.engine.begin() as connection:
        connection.execute(delete(Line))
        connection.execute(delete(Order))


def delete_by_orm(app, key=1):
    with app.session() as session:
        session.delete(session.get_one(Order, key))
        session.commit()


def jobs_of(app, resource="Order"):
    """Jobs of records with key 1, of this life and of others, oldest first."""
    found = app.queries.jobs(resource=resource)[::-1]
    return [job for job in found if job.record_id == "1"]


@pytest.mark.parametrize("end", [delete_in_sql, delete_by_orm])
@pytest.mark.parametrize("state", ["queued", "failed", "cancelled", "discarded"])
def test_a_new_record_has_nothing_of_the_jobs_of_its_predecessor(app, state, end):
    new(app, "Ada")
    (first,) = jobs_of(app)
    bring_to(app, first, state)
    end(app)

    seen = []
    script.charge = lambda order, ctx: seen.append(
        (order.who, ctx.attempt, ctx.idempotency_key)
    )
    new(app, "Bob")
    app.drain()

    ended, second = jobs_of(app)
    assert seen == [("Bob", 1, second.idempotency_key)]
    assert second.idempotency_key != first.idempotency_key
    expected = state if state in {"cancelled", "discarded"} else "cancelled"
    assert (ended.state, second.state) == (expected, "completed")


def bring_to(app, job, state):
    if state == "cancelled":
        app.cancel_job(job.id)
    elif state != "queued":
        script.charge = lose
        app.drain()
        if state == "discarded":
            app.sources.clock.advance(hours=1)
            app.drain()
    assert app.queries.job(job.id).state == state


def test_an_attempt_of_a_deleted_record_ends_nothing_of_its_successor(app):
    new(app, "Ada", fire=None)
    enqueue(app)
    (claim,) = app.runner().claim("default", limit=1)
    delete_in_sql(app)
    new(app, "Bob", fire=None)
    enqueue(app)
    first, second = jobs_of(app)

    app.runner().run(claim)  # its record is in the same state, with the same version

    assert app.queries.job(first.id).state is JobState.CANCELLED
    assert app.queries.job(second.id).state is JobState.QUEUED
    names = [row["name"] for row in app.queries.transitions("Order", "1")]
    assert names == ["create", "create"]


def enqueue(app, **args):
    with app.session() as session:
        found = Order.send_bill.enqueue(session, session.get_one(Order, 1), **args)
        session.commit()
        return found


def test_a_job_under_a_former_key_of_its_trigger_ends_too(app):
    new(app, "Ada", fire=None)
    enqueue(app)
    with app.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE statejobs_jobs SET key = 'order.invoice', dedupe_key = 'order.invoice:1'"
        )
    delete_in_sql(app)
    new(app, "Bob", fire=None)

    (job,) = jobs_of(app)
    assert (job.state, job.reason) == (
        "cancelled",
        "its record is gone, and another has its key",
    )


def test_a_job_of_an_earlier_record_cannot_be_retried_on_its_successor(app):
    new(app, "Ada")
    (first,) = jobs_of(app)
    bring_to(app, first, "discarded")
    delete_in_sql(app)
    new(app, "Bob")

    assert "another has its key" in app.why_no_retry(first.id)
    with pytest.raises(NotFoundError, match="another has its key"):
        app.retry_job(first.id)


def test_a_record_whose_key_comes_from_its_parent_is_new_too(app):
    for _ in range(2):
        with app.session() as session:
            order = Order(id=1, lines=[Line()])
            session.add(order)
            order.lines[0].submit()
            session.commit()
        delete_in_sql(app)

    first, second = jobs_of(app, "Line")
    assert (first.state, second.state) == ("cancelled", "queued")


def test_a_record_that_takes_the_place_of_one_deleted_in_the_same_flush_is_new(app):
    new(app, "Ada")
    with app.session() as session:
        session.delete(session.get_one(Order, 1))
        order = Order(id=1, who="Bob")
        session.add(order)
        order.submit()
        session.commit()

    first, second = jobs_of(app)
    assert (first.state, second.state) == ("cancelled", "queued")


def test_deleting_a_record_cancels_its_waiting_jobs_in_the_same_flush(app):
    new(app, "Ada")
    with app.session() as session:
        session.delete(session.get_one(Order, 1))
        session.flush()
        session.rollback()
    assert [job.state for job in jobs_of(app)] == [JobState.QUEUED]

    delete_by_orm(app)

    (job,) = jobs_of(app)
    assert (job.state, job.reason) == ("cancelled", "its record was deleted")


def test_an_orphan_that_a_flush_deletes_cancels_its_waiting_jobs(app):
    with app.session() as session:
        order = Order(id=1, lines=[Line()])
        session.add(order)
        order.lines[0].submit()
        session.commit()
        order.lines.clear()
        session.commit()

    assert [job.state for job in jobs_of(app, "Line")] == [JobState.CANCELLED]


def test_deleting_a_record_asks_its_running_job_to_stop(app):
    new(app, "Ada")
    (claim,) = app.runner().claim("default", limit=1)
    delete_by_orm(app)

    (job,) = jobs_of(app)
    assert (job.state, job.cancel_requested) == ("processing", True)
    app.runner().run(claim)
    assert [job.state for job in jobs_of(app)] == [JobState.CANCELLED]


def test_a_flush_that_fails_after_a_deletion_cancels_nothing_later(app):
    new(app, "Ada")
    new(app, "Bob", key=2)
    with app.session() as session:
        session.delete(session.get_one(Order, 1))
        with pytest.raises(IntegrityError), session.no_autoflush:
            session.connection().exec_driver_sql(
                "INSERT INTO lines (order_id) VALUES (1)"
            )
        session.rollback()
        session.get_one(Order, 2).who = "Eve"
        session.commit()

    assert [job.state for job in jobs_of(app)] == [JobState.QUEUED]


@contextmanager
def looks():
    """Collect the statements that look for jobs of earlier records."""
    seen = []

    def note(_connection, _cursor, statement, *_more):
        if "FROM statejobs_jobs" in statement:
            seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def test_one_look_serves_all_records_of_a_flush(app):
    with app.session() as session, looks() as seen:
        session.add_all([Order(id=n) for n in range(1, 200)])
        session.commit()

    assert len(seen) == 1


def test_keys_that_the_database_counts_up_are_looked_for_only_where_it_reuses_them(app):
    with app.session() as session, looks() as seen:
        session.add_all([Order(), Order()])
        session.commit()

    assert len(seen) == (1 if app.engine.dialect.name == "sqlite" else 0)


def test_other_arguments_for_a_job_that_waits_are_other_work(app):
    new(app, "Ada", fire=None)
    seen = []

    def charge(_order, ctx):
        seen.append(ctx.idempotency_key)
        raise ConnectionError

    script.charge = charge
    for copies in (1, 1, 2):
        enqueue(app, copies=copies)
        app.drain()

    assert seen[0] == seen[1] != seen[2]


def test_other_arguments_for_a_job_that_was_given_up_are_other_work(app):
    new(app, "Ada", fire=None)
    enqueue(app, copies=1)
    (job,) = jobs_of(app)
    app.cancel_job(job.id)
    enqueue(app, copies=1)
    assert jobs_of(app)[0].idempotency_key == job.idempotency_key
    app.cancel_job(job.id)
    enqueue(app, copies=2)

    assert jobs_of(app)[0].idempotency_key != job.idempotency_key


@pytest.mark.parametrize("completes", [True, False])
def test_what_is_asked_for_again_is_other_work_once_it_was_done(app, completes):
    new(app, "Ada", fire=None)
    enqueue(app)
    (claim,) = app.runner().claim("default", limit=1)
    enqueue(app)  # the same arguments, while it runs
    script.charge = (lambda _order, _ctx: None) if completes else lose
    app.runner().run(claim)

    (job,) = jobs_of(app)
    assert job.state is JobState.QUEUED
    assert (job.idempotency_key != claim.job.idempotency_key) is completes


class Guid(TypeDecorator):
    """A type of the user's own for UUIDs."""

    impl = String(32)
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return None if value is None else uuid.UUID(str(value)).hex

    def process_result_value(self, value, dialect):
        return None if value is None else uuid.UUID(value)


ID = uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
GIVEN = [
    (int, None, "42", "42"),
    (int, None, 42.0, "42"),
    (int, None, True, "1"),
    (str, None, 7, '"7"'),
    (uuid.UUID, None, str(ID).upper(), f'"{ID}"'),
    (uuid.UUID, None, ID.hex, f'"{ID}"'),
    (str, Uuid(as_uuid=False), str(ID).upper(), f'"{ID}"'),
    (uuid.UUID, Guid(), str(ID).upper(), f'"{ID}"'),
]


@pytest.mark.parametrize(("kind", "column", "given", "record_id"), GIVEN)
def test_a_key_is_brought_to_the_type_of_its_column(
    database_url, kind, column, given, record_id
):
    cls = keyed(kind, column)
    with opened(database_url, cls) as app:
        with app.session() as session:
            record = cls(id=given)
            session.add(record)
            record.submit()
            session.commit()
        app.drain()

        (job,) = app.queries.jobs(resource="Keyed")
        assert (job.state, job.record_id) == ("completed", record_id)
        with app.session() as session:
            (record,) = session.scalars(select(cls))
            cls.pay.enqueue(session, record)
            session.commit()
        assert {job.record_id for job in app.queries.jobs(resource="Keyed")} == {
            record_id
        }
        assert len(app.queries.transitions("Keyed", record_id)) == 3


def test_a_key_that_is_merged_as_text_is_the_same_record(database_url):
    cls = keyed(int, None)
    with opened(database_url, cls) as app:
        with app.session() as session:
            session.add(cls(id=42))
            session.commit()
        with app.session() as session:
            record = session.get_one(cls, 42)
            record.id = "42"
            record.submit()
            session.commit()
        app.drain()

        assert [job.state for job in app.queries.jobs(resource="Keyed")] == [
            JobState.COMPLETED
        ]


@pytest.mark.parametrize(("kind", "given"), [(int, "x"), (int, 1.5), (uuid.UUID, "x")])
def test_a_key_that_is_no_value_of_its_column_is_refused(database_url, kind, given):
    cls = keyed(kind, None)
    with opened(database_url, cls) as app, app.session() as session:
        session.add(cls(id=given))
        with pytest.raises(Exception, match="is no value of"):
            session.flush()


def keyed(kind, column):
    class Own(DeclarativeBase): ...

    class Keyed(StatefulResource, Own):
        __tablename__ = "keyeds"
        id: Mapped[kind] = mapped_column(
            *([column] if column else []), primary_key=True
        )
        state: Mapped[S] = state_column(S, initial=S.DRAFT)
        work = Trigger.on_demand("keyed.work")

        @transition(S.DRAFT, S.QUEUED, run_trigger=work)
        def submit(self) -> None: ...

        @work.action([S.QUEUED, S.DONE], S.DONE)
        def pay(self, ctx: JobContext) -> None: ...

    return Keyed


@contextmanager
def opened(url, kind):
    app = StateJobs(
        url,
        domains=[Domain("shop", resources=[kind])],
        sources=manual_sources(ManualClock()),
    )
    try:
        app.create_all()
        yield app
    finally:
        close_app(app)


@pytest.mark.parametrize("way", ["rows", "values", "from_select"])
def test_a_record_that_an_insert_creates_has_nothing_of_its_predecessor(app, way):
    new(app, "Ada")
    (first,) = jobs_of(app)
    delete_in_sql(app)
    chosen = {"id": 1, "who": "Bob"}
    ways = {
        "rows": (insert(Order), [chosen]),
        "values": (insert(Order).values(chosen), None),
        "from_select": (
            insert(Order).from_select(
                ["id", "who"], select(literal(1), literal("Bob"))
            ),
            None,
        ),
    }
    with app.session() as session:
        session.execute(*ways[way])
        session.get_one(Order, 1).submit()
        session.commit()

    ended, second = jobs_of(app)
    assert (ended.state, second.state) == ("cancelled", "queued")
    assert second.idempotency_key != first.idempotency_key


def test_an_insert_whose_keys_are_counted_up_looks_for_no_predecessor(app):
    with looks() as seen, app.session() as session:
        session.execute(insert(Order), [{"who": "Bob"}] * 3)
        session.commit()

    assert len(seen) == (1 if app.engine.dialect.name == "sqlite" else 0)
