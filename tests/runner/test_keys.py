"""A record is found by its job whatever its key is made of, also by a type of the user's."""

import uuid
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

import pytest
from sqlalchemy import CHAR, Date, String, TypeDecorator, Uuid
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    Domain,
    JobContext,
    JobState,
    StatefulResource,
    StateJobs,
    Trigger,
    UtcDateTime,
    state_column,
)
from tests.support.clock import ManualClock, manual_sources
from tests.support.parcels import close_app

BACKOFF = timedelta(seconds=20)


class Base(DeclarativeBase): ...


class Guid(TypeDecorator[uuid.UUID]):
    """The recipe of SQLAlchemy's documentation: one type on PostgreSQL, another elsewhere."""

    impl = CHAR(32)
    cache_ok = True

    def load_dialect_impl(self, dialect):
        is_postgresql = dialect.name == "postgresql"
        kind = postgresql.UUID(as_uuid=False) if is_postgresql else CHAR(32)
        return dialect.type_descriptor(kind)

    def process_bind_param(self, value, dialect):
        if value is None:
            return None
        found = value if isinstance(value, uuid.UUID) else uuid.UUID(value)
        return str(found) if dialect.name == "postgresql" else found.hex

    def process_result_value(self, value, dialect):
        return (
            value if value is None or isinstance(value, uuid.UUID) else uuid.UUID(value)
        )


class UuidText(TypeDecorator[str]):
    """Text in Python, a UUID in the database."""

    impl = Uuid
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return value and uuid.UUID(value)

    def process_result_value(self, value, dialect):
        return value and str(value)


class Prefixed(TypeDecorator[str]):
    """Stored otherwise than it is seen."""

    impl = String(20)
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return value and f"R-{value}"

    def process_result_value(self, value, dialect):
        return value and value[2:]


class Day(TypeDecorator[date]):
    """Only a name for another type."""

    impl = Date
    cache_ok = True


class S(StrEnum):
    NEW = "new"
    RUN = "run"
    DONE = "done"
    LOST = "lost"


def resource_with(name, kind):
    """A resource whose key has a column of *kind*, and one of a number."""
    trigger = Trigger.on_demand(f"{name}.work", max_attempts=2, backoff=BACKOFF)

    @trigger.action(S.NEW, S.DONE, during=S.RUN, failed=S.LOST)
    def act(self, ctx: JobContext) -> None:
        if ctx.attempt == 1:
            raise ValueError("once more")
        self.n += 1

    body = {
        "__tablename__": f"keys_{name}",
        "__annotations__": {"n": Mapped[int], "state": Mapped[S]},
        "key": mapped_column(kind, primary_key=True),
        "n": mapped_column(default=0),
        "state": state_column(S, initial=S.NEW, final=(S.DONE,)),
        "work": trigger,
        "act": act,
    }
    return type(f"Key{name.title()}", (StatefulResource, Base), body)


NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
KEYS = {
    resource_with("guid", Guid): [uuid.UUID(int=n) for n in (2, 10, 3)],
    resource_with("text", UuidText): [str(uuid.UUID(int=n)) for n in (2, 10, 3)],
    resource_with("prefixed", Prefixed): ["2", "10", "a'b"],
    resource_with("day", Day): [date(2030, 1, n) for n in (2, 10, 3)],
    resource_with("instant", UtcDateTime): [
        NOON + timedelta(microseconds=n) for n in (2, 10, 3)
    ],
}


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def app(database_url, clock):
    app = StateJobs(
        database_url,
        domains=[Domain("keys", resources=[*KEYS])],
        sources=manual_sources(clock),
    )
    app.create_all()
    yield app
    close_app(app)


@pytest.mark.parametrize("resource", KEYS, ids=lambda resource: resource.__name__)
def test_a_job_finds_its_record_by_any_key_and_finds_it_again(app, clock, resource):
    with app.session() as session:
        records = [resource(key=key) for key in KEYS[resource]]
        session.add_all(records)
        session.flush()
        resource.act.enqueue_many(session, records)
        session.commit()

    app.drain()
    clock.advance(BACKOFF)
    app.drain()

    assert [job.state for job in app.queries.jobs()] == [JobState.COMPLETED] * 3
    with app.session() as session:
        found = [session.get_one(resource, key) for key in KEYS[resource]]
    assert [(record.state, record.n) for record in found] == [(S.DONE, 1)] * 3


@pytest.mark.parametrize("resource", KEYS, ids=lambda resource: resource.__name__)
def test_a_crashed_job_of_any_key_is_rescued(app, clock, resource):
    key, *_ = KEYS[resource]
    with app.session() as session:
        record = resource(key=key)
        session.add(record)
        session.flush()
        resource.act.enqueue(session, record)
        session.commit()
    (_claim,) = app.runner().claim("default", limit=1)
    clock.advance(app.settings.lease * 4)

    app.runner().rescue()

    (job,) = app.queries.jobs()
    with app.session() as session:
        assert session.get_one(resource, key).state is S.NEW
    assert (job.crashes, job.state is JobState.PROCESSING) == (1, False)
