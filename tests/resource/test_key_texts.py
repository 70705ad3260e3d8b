"""A record has one text: the one that the database's value for its key has."""

import enum
import ipaddress
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import DeclarativeBase, mapped_column, relationship

from statejobs import (
    DefinitionError,
    Domain,
    StateJobs,
    StateJobsError,
    UtcDateTime,
)
from tests.resource.support import keyed
from tests.support.clock import ManualClock, manual_sources
from tests.support.parcels import close_app


class Slug(str):
    __slots__ = ()


class Color(enum.Enum):
    RED = "r"


class Kind(enum.StrEnum):
    A = "a"


def decorated(impl, to, back, **more):
    """A type of the user's own, whose values are not those that are stored."""

    def sent(_self, value, _dialect):
        return None if value is None else to(value)

    def read(_self, value, _dialect):
        return None if value is None else back(value)

    body = {"impl": impl, "cache_ok": True, "process_bind_param": sent, **more}
    return type("Own", (sa.TypeDecorator,), {**body, "process_result_value": read})()


@pytest.fixture
def opened(database_url):
    apps = []

    def make(*kinds):
        resources = Domain("keys", resources=list(kinds))
        app = StateJobs(
            database_url, domains=[resources], sources=manual_sources(ManualClock())
        )
        apps.append(app)
        app.create_all()
        return app

    yield make
    for app in apps:
        close_app(app)


EAST = timezone(timedelta(hours=2))
ID = uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
GIVEN = [
    (UtcDateTime(), datetime(2020, 1, 1, 5, tzinfo=EAST), '"2020-01-01T03:00:00Z"'),
    (sa.DateTime(), datetime(2020, 1, 1, 5), '"2020-01-01T05:00:00"'),  # noqa: DTZ001
    (sa.Date(), datetime(2020, 1, 1, 5, tzinfo=UTC), '"2020-01-01"'),
    (sa.Date(), "2020-01-01", '"2020-01-01"'),
    (sa.Time(), time(5), '"05:00:00"'),
    (sa.Numeric(10, 2), 1, '"1.00"'),
    (sa.Numeric(10, 2), Decimal("1.5"), '"1.50"'),
    (sa.Numeric(10, 2), 1.005, '"1.01"'),
    (sa.Numeric(10, 2), "1.5", '"1.50"'),
    (sa.Numeric(10, 2, asdecimal=False), Decimal("1.505"), "1.51"),
    (sa.Numeric(asdecimal=False), 0.1 + 0.2, "0.3"),
    (sa.Float(), 1, "1.0"),
    (sa.Double(), Decimal("0.1"), "0.1"),
    (sa.Enum(Color), "RED", '"r"'),
    (sa.Enum(Color), Color.RED, '"r"'),
    (sa.Enum("x", "y", name="xy"), "x", '"x"'),
    (sa.Boolean(), 1, "true"),
    (sa.LargeBinary(), bytearray(b"ab"), '"YWI="'),
    (sa.String(40), Slug("acme"), '"acme"'),
    (sa.String(), Kind.A, '"a"'),
    (sa.Text(), 7, '"7"'),
    (sa.Uuid(), str(ID).upper(), f'"{ID}"'),
    (sa.CHAR(4), "abcd", '"abcd"'),
    (sa.SmallInteger(), "7", "7"),
    (decorated(sa.String(20), lambda v: v.value, Color), Color.RED, '"r"'),
    (
        decorated(sa.String(20), lambda v: v.isoformat(), date.fromisoformat),
        date(2020, 1, 1),
        '"2020-01-01"',
    ),
    (
        decorated(
            sa.LargeBinary(16), lambda v: v.bytes, lambda b: uuid.UUID(bytes=bytes(b))
        ),
        ID,
        f'"{ID}"',
    ),
    (
        decorated(sa.Integer, lambda v: int(v * 100), lambda v: Decimal(v) / 100),
        1,
        '"1"',
    ),
    (
        decorated(sa.Integer, lambda v: int(v * 100), lambda v: Decimal(v) / 100),
        Decimal("1.50"),
        '"1.5"',
    ),
    (decorated(sa.Numeric(10, 2), lambda v: v, lambda v: v), Decimal("1.5"), '"1.50"'),
    (
        decorated(sa.String(40), str, ipaddress.ip_address),
        ipaddress.ip_address("10.0.0.1"),
        '"10.0.0.1"',
    ),
    (decorated(sa.String(40), str, Slug), "acme", '"acme"'),
    (decorated(sa.String(40), str.lower, lambda v: v), "ACME", '"acme"'),
    (
        decorated(
            sa.String(9), lambda v: v.name, lambda v: Color[v], python_type=Color
        ),
        Color.RED,
        '"r"',
    ),
]
NATIVE = [
    (sa.CHAR(4), "ab", '"ab  "', '"ab"'),
    (sa.String(3), "ab   ", '"ab "', '"ab   "'),
    (sa.Numeric(), 1, '"1"', '"1.0000000000"'),
    (sa.Numeric(), Decimal("1E+2"), '"100"', '"100.0000000000"'),
    (sa.String(40).with_variant(sa.Integer(), "postgresql"), "7", "7", '"7"'),
]


def test_a_record_has_the_text_that_its_key_has_once_it_is_loaded(opened, database_url):
    class Base(DeclarativeBase): ...

    here = 0 if database_url.startswith("postgresql") else 1
    cases = [
        *GIVEN,
        *((column, given, texts[here]) for column, given, *texts in NATIVE),
    ]
    classes = [keyed(column, f"Keyed{n}", Base) for n, (column, *_) in enumerate(cases)]
    app = opened(*classes)
    for cls, (_, given, _) in zip(classes, cases, strict=True):
        with app.session() as session:
            record = cls(id=given)
            session.add(record)
            session.commit()
        with app.session() as session:  # as loaded
            (record,) = session.scalars(sa.select(cls))
            record.submit()
            session.commit()
    app.drain()
    for cls in classes:
        with app.session() as session:
            (record,) = session.scalars(sa.select(cls))
            cls.pay.enqueue(session, record)
            session.commit()
    app.drain()

    found = [set(history_texts(app, cls)) | set(job_texts(app, cls)) for cls in classes]
    assert found == [{text} for *_, text in cases]
    jobs = [app.queries.jobs(resource=cls.__name__) for cls in classes]
    assert [[job.state for job in some] for some in jobs] == [["completed"] * 2] * len(
        classes
    )


def job_texts(app, cls):
    return [job.record_id for job in app.queries.jobs(resource=cls.__name__)]


def history_texts(app, cls):
    with app.engine.connect() as connection:
        query = "SELECT record_id FROM statejobs_transitions WHERE resource = :name"
        return list(connection.scalars(sa.text(query), {"name": cls.__name__}))


def test_an_instant_has_one_text_in_every_zone_of_a_session(opened):
    cls = keyed(sa.DateTime(timezone=True))
    app = opened(cls)
    if app.engine.dialect.name == "sqlite":
        with app.session() as session:
            session.add(cls(id=datetime(2020, 1, 1, tzinfo=UTC)))
            with pytest.raises(
                StateJobsError, match=r"no time zone \(statejobs.UtcDateTime"
            ):
                session.flush()
        return

    for zone, at in [("Asia/Tokyo", datetime(2020, 1, 1, tzinfo=EAST)), ("UTC", None)]:
        with app.session() as session:
            session.execute(sa.text(f"SET LOCAL TIME ZONE '{zone}'"))
            record = cls(id=at) if at else session.scalars(sa.select(cls)).one()
            session.add(record)
            session.flush()
            session.refresh(record)
            cls.pay.enqueue(session, record) if not at else record.submit()
            session.commit()

    assert job_texts(app, cls) == ['"2019-12-31T22:00:00Z"']
    app.drain()
    assert [job.state for job in app.queries.jobs(resource="Keyed")] == ["completed"]


REFUSED = [
    (sa.Numeric(), Decimal("NaN")),
    (sa.Float(), float("nan")),
    (sa.Float(), "x"),
    (sa.Boolean(), 2),
    (sa.Enum(Color), "GREEN"),
    (sa.Uuid(), 7),
    (sa.LargeBinary(), 5),
    (sa.String(), b"ab"),
    (sa.Date(), 5),
    (sa.DateTime(), datetime(2020, 1, 1, tzinfo=UTC)),
    (sa.DateTime(), date(2020, 1, 1)),
    (UtcDateTime(), datetime(2020, 1, 1)),  # noqa: DTZ001
    (sa.Time(), time(5, tzinfo=UTC)),
    (decorated(sa.String(9), lambda v: v.name, lambda v: Color[v]), Color.RED),
    (decorated(sa.String(9), str, lambda _: object()), "x"),
]


def test_a_key_that_no_text_can_stand_for_is_refused_in_words(opened):
    class Base(DeclarativeBase): ...

    classes = [
        keyed(column, f"Keyed{n}", Base) for n, (column, _) in enumerate(REFUSED)
    ]
    app = opened(*classes)
    for cls, (_, given) in zip(classes, REFUSED, strict=True):
        with app.session() as session:
            session.add(cls(id=given))

            with pytest.raises(
                StateJobsError, match=r"its key 'id' is .* is no value of"
            ):
                session.flush()


class Lowered(sa.TypeDecorator):
    impl = sa.String
    cache_ok = True

    def column_expression(self, column):
        return sa.func.lower(column)


NO_KEYS = [
    postgresql.MACADDR(),
    postgresql.INET(),
    postgresql.BIT(4),
    postgresql.TIMESTAMP(precision=0),
    sa.ARRAY(sa.Integer),
    sa.JSON(),
    sa.Interval(),
    sa.PickleType(),
    sa.Time(timezone=True),
    sa.REAL(),
    sa.Float(24),
    Lowered(),
    sa.String().with_variant(postgresql.INET(), "postgresql"),
    decorated(sa.JSON(), lambda v: v, lambda v: v),
]


@pytest.mark.parametrize("column", NO_KEYS, ids=repr)
def test_a_type_whose_values_may_have_two_texts_is_refused_for_a_key(column):
    with pytest.raises(DefinitionError, match="cannot be that of a primary key"):
        keyed(column)


@pytest.mark.parametrize("way", ["default", "before_insert"])
def test_a_key_that_is_made_in_the_flush_has_to_be_what_is_loaded(opened, way):
    made = Decimal("1.5")
    cls = keyed(
        sa.Numeric(10, 2), **({"default": lambda: made} if way == "default" else {})
    )
    if way == "before_insert":
        sa.event.listen(
            cls, "before_insert", lambda _m, _c, record: setattr(record, "id", made)
        )
    app = opened(cls)
    with app.session() as session:
        session.add(cls())
        with pytest.raises(
            StateJobsError, match=r"was made as .*1.5.*, which is loaded as .*1.50"
        ):
            session.flush()
    made = Decimal("1.50")
    with app.session() as session:
        session.add(cls())
        session.commit()

    assert history_texts(app, cls) == ['"1.50"']


def test_another_key_for_a_stored_record_is_refused_with_or_without_a_move(opened):
    cls = keyed(sa.Integer())
    app = opened(cls)
    for moves in (True, False):
        with app.session() as session:
            record = session.merge(cls(id=1))
            session.commit()
            record.id = 9
            if moves:
                record.submit()
            with pytest.raises(
                StateJobsError, match="Keyed 1: its key 'id' was changed from 1 to"
            ):
                session.flush()
            session.rollback()
            record.id = "1"  # the same
            session.commit()
            assert record.id == 1


def test_a_key_that_follows_another_parent_is_refused(opened):
    class Base(DeclarativeBase): ...

    class Customer(Base):
        __tablename__ = "customers"
        id = mapped_column(sa.Integer, primary_key=True)

    column = sa.ForeignKey("customers.id")
    cls = keyed(column, "Profile", Base, more={"customer": relationship(Customer)})
    app = opened(cls)
    with app.session() as session:
        session.add(profile := cls(customer=Customer(id=1)))
        session.commit()
        profile.customer = Customer(id=2)

        with pytest.raises(
            StateJobsError, match="Profile 1: its key 'id' was changed from 1 to 2"
        ):
            session.flush()
