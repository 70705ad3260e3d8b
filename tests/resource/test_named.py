"""Records, resources, keys and queues as people name them, and what is stored for each."""

import asyncio
import json
import uuid
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum

import pytest
from sqlalchemy import Enum, Numeric, String, Uuid, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from statejobs import (
    Domain,
    JobContext,
    NotFoundError,
    StatefulResource,
    StateJobs,
    Trigger,
    UtcDateTime,
    WrongValueError,
    state_column,
)


class Base(DeclarativeBase):
    """The user's base."""


class State(StrEnum):
    NEW = "new"
    DONE = "done"


class Size(StrEnum):
    SMALL = "small"
    LARGE = "large"


class Code:
    """A key of the user's."""

    def __init__(self, text):
        self.text = text

    def __str__(self):
        return self.text


class CodeType(TypeDecorator):
    impl = String
    cache_ok = True

    def process_bind_param(self, value, dialect):
        if not isinstance(value, str | Code):
            raise TypeError(value)
        return str(value).upper()


class Sent(StatefulResource):
    send = Trigger.on_demand("{resource}.send")
    state: Mapped[State] = state_column(State, initial=State.NEW, run_trigger=send)

    @send.action(State.NEW, State.DONE)
    def go(self, ctx: JobContext) -> None:
        """Send it."""


class Number(Sent, Base):
    __tablename__ = "numbers"
    id: Mapped[int] = mapped_column(primary_key=True)


class Invoice(Sent, Base):
    __tablename__ = "invoices"
    number: Mapped[str] = mapped_column(primary_key=True)


class Seat(Sent, Base):
    __tablename__ = "seats"
    hall: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)


class Thing(Sent, Base):
    __tablename__ = "things"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)


class Paper(Sent, Base):
    __tablename__ = "papers"
    id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True)


class Price(Sent, Base):
    __tablename__ = "prices"
    amount: Mapped[Decimal] = mapped_column(Numeric(10, 2), primary_key=True)


class Shirt(Sent, Base):
    __tablename__ = "shirts"
    size: Mapped[Size] = mapped_column(Enum(Size), primary_key=True)


class Day(Sent, Base):
    __tablename__ = "days"
    at: Mapped[datetime] = mapped_column(UtcDateTime, primary_key=True)


class Coded(Sent, Base):
    __tablename__ = "coded"
    code: Mapped[str] = mapped_column(CodeType, primary_key=True)


RESOURCES = [Number, Invoice, Seat, Thing, Paper, Price, Shirt, Day, Coded]
ID = uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
SPELLINGS = [
    (lambda: Number(id=42), (42, (42,), [42], "42", " 42", "042")),
    (lambda: Invoice(number="R-1"), ("R-1", '"R-1"', ("R-1",), '"R\\u002d1"')),
    (lambda: Invoice(number="42"), (42, "42", '"42"', ("42",))),
    (lambda: Invoice(number=" 42"), (" 42", '" 42"')),
    (lambda: Invoice(number="true"), ("true", '"true"')),
    (lambda: Invoice(number="ü"), ("ü", '"ü"', json.dumps("ü"))),
    (lambda: Invoice(number='"R-1"'), (('"R-1"',), json.dumps('"R-1"'))),
    (lambda: Invoice(number="[1]"), ("[1]", '"[1]"', ("[1]",))),
    (
        lambda: Seat(hall="A", number=7),
        (("A", 7), ["A", "7"], '["A",7]', '["A", 7]', ' ["A" ,7 ]'),
    ),
    (
        lambda: Seat(hall="Zürich", number=7),
        (
            ("Zürich", 7),
            json.dumps(["Zürich", 7]),
            json.dumps(["Zürich", 7], ensure_ascii=False),
        ),
    ),
    (
        lambda: Thing(id=ID),
        (ID, str(ID), str(ID).upper(), ID.hex, json.dumps(str(ID).upper())),
    ),
    (
        lambda: Paper(id=str(ID)),
        (ID, str(ID), str(ID).upper(), ID.hex, json.dumps(str(ID))),
    ),
    (
        lambda: Price(amount=Decimal("1.50")),
        (Decimal("1.5"), "1.5", "1.50", '"1.500"', 1.5),
    ),
    (lambda: Shirt(size=Size.LARGE), (Size.LARGE, "large", '"large"')),
    (
        lambda: Day(at=NOON),
        (
            NOON,
            NOON.astimezone(timezone(timedelta(hours=2))),
            "2030-01-01T12:00:00Z",
            '"2030-01-01T14:00:00+02:00"',
        ),
    ),
    (lambda: Coded(code="AB"), ("AB", "ab", '"ab"', Code("ab"))),
]


@pytest.fixture
def app(database_url):
    with StateJobs(database_url, domains=[Domain("x", resources=RESOURCES)]) as jobs:
        jobs.create_all()
        with jobs.session() as session:
            session.add_all(
                [
                    Number(id=43),
                    Invoice(number="other"),
                    Seat(hall="A", number=8),
                    Thing(id=uuid.UUID(int=1)),
                    Paper(id=str(uuid.UUID(int=1))),
                    Price(amount=Decimal(2)),
                    Shirt(size=Size.SMALL),
                    Day(at=NOON + timedelta(days=1)),
                    Coded(code="CD"),
                ]
            )
            session.commit()
        yield jobs


def add(app, record):
    with app.session() as session:
        session.add(record)
        session.commit()
    return record


def test_a_record_is_found_by_itself_its_key_and_every_spelling_of_it(app):
    named = [(add(app, make()), spellings) for make, spellings in SPELLINGS]
    jobs = {job.id: job for job in app.queries.jobs()}

    def check(steps):
        for record, spellings in named:
            for name in (record, *spellings):
                (job,) = app.queries.jobs(resource=type(record), record_id=name)
                history = app.queries.transitions(type(record).__name__, name)
                assert [row["record_id"] for row in history] == [
                    job.record_id
                ] * steps, name
                assert job.id in {j.id for j in app.queries.jobs(record_id=name)}, name
                jobs.pop(job.id, None)

    check(1)
    assert len(jobs) == len(RESOURCES)  # no two of them are one
    app.drain()
    check(2)  # now found through its history


def test_what_a_job_stores_names_its_record(app):
    for make, _ in SPELLINGS:
        add(app, make())

    for job in app.queries.jobs():
        found = app.queries.jobs(resource=job.resource, record_id=job.record_id)
        assert [one.id for one in found] == [job.id]
        assert len(app.queries.transitions(job.resource, job.record_id)) == 1


def test_a_record_is_named_by_what_a_query_returns(app):
    add(app, Seat(hall="A", number=7))

    with app.session() as session:
        row = session.execute(
            select(Seat.hall, Seat.number).where(Seat.number == 7)
        ).one()

    assert len(app.queries.transitions(Seat, row)) == 1


def test_a_record_that_is_deleted_or_expired_or_not_flushed_still_names_itself(app):
    with app.session() as session:
        record = session.get(Number, 43)
        session.delete(record)
        session.commit()

    assert len(app.queries.transitions(Number, record)) == 1
    assert len(app.queries.transitions(Number, Number(id="43"))) == 1
    with app.session() as session:
        kept = session.get(Invoice, "other")
        session.expire(kept)
        session.expunge(kept)
    assert len(app.queries.transitions(Invoice, kept)) == 1


def test_the_forms_for_asyncio_name_records_in_the_same_ways(app):
    record = add(app, Invoice(number="R-1"))

    async def ask():
        for named in (record, "R-1", '"R-1"', ("R-1",)):
            assert len(await app.queries.transitions_async("invoice", named)) == 1
            assert len(await app.queries.jobs_async(record_id=named)) == 1
        with pytest.raises(NotFoundError, match="did you mean 'Invoice'"):
            await app.queries.transitions_async("Invoce", "R-1")

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"resource": "Invoce"}, "no resource 'Invoce'; did you mean 'Invoice'"),
        ({"resource": "Invoce", "record_id": "R-1"}, "no resource 'Invoce'"),
        ({"key": "invoice.sent"}, "no key 'invoice.sent'; did you mean 'invoice.send'"),
        ({"queue": "defalt"}, "no queue 'defalt'; did you mean 'default'"),
        (
            {"resource": "Number", "record_id": "x"},
            r"'x' is not a key of Number \(id: int\)",
        ),
        ({"resource": Number, "record_id": True}, "True is not a key of Number"),
        ({"resource": Number, "record_id": "true"}, "'true' is not a key of Number"),
        ({"resource": Number, "record_id": 1.5}, "1.5 is not a key of Number"),
        ({"resource": Number, "record_id": (1, 2)}, r"\(1, 2\) is not a key of Number"),
        ({"resource": Seat, "record_id": "A"}, "'A' is not a key of Seat"),
        ({"resource": Seat, "record_id": ("A",)}, "is not a key of Seat"),
        ({"resource": Day, "record_id": "noon"}, "'noon' is not a key of Day"),
        ({"resource": Price, "record_id": "dear"}, "'dear' is not a key of Price"),
        ({"record_id": object()}, "is not a key of a record"),
    ],
)
def test_a_name_that_nobody_knows_is_refused(app, named, words):
    with pytest.raises(NotFoundError, match=words):
        app.queries.jobs(**named)


@pytest.mark.parametrize(
    ("resource", "record", "words"),
    [
        (
            Number,
            lambda: Invoice(number="43"),
            "a record of Invoice was given for one of Number",
        ),
        ("Nmber", lambda: Number(id=43), "one of Nmber"),
        (Number, Number, r"Number \(new\) has no key yet"),
        (7, lambda: Number(id=43), "no name of a resource"),
    ],
)
def test_a_record_that_cannot_be_meant_is_refused(app, resource, record, words):
    with pytest.raises(WrongValueError, match=words):
        app.queries.transitions(resource, record())
    with pytest.raises(WrongValueError, match=words):
        app.queries.jobs(resource=resource, record_id=record())


def test_names_that_are_known_may_have_nothing(app):
    app.prune(older_than=timedelta())

    assert app.queries.transitions("Number", "7") == []
    assert app.queries.jobs(resource="Number", record_id=7) == []
    assert app.queries.jobs(queue="default", states=["failed"]) == []
    assert app.queries.jobs(key="number.send", states=["failed"]) == []


def test_jobs_and_history_of_another_app_are_found_by_what_is_stored(app, database_url):
    with StateJobs(database_url, domains=[Domain("x")], queues={"other": 1}) as other:
        assert len(other.queries.jobs(resource="Number", record_id="43")) == 1
        assert len(other.queries.jobs(resource="Seat", record_id=("A", 8))) == 1
        assert len(other.queries.transitions("Invoice", '"other"')) == 1
        assert len(other.queries.jobs(key="number.send")) == 1
        assert len(other.queries.jobs(queue="default", limit=1)) == 1
