"""JSON and arrays are written together with columns of other records, as they would be alone."""

from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from json import dumps
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import (
    ARRAY,
    JSON,
    Date,
    DateTime,
    Float,
    Integer,
    LargeBinary,
    Numeric,
    Text,
    TypeDecorator,
    Uuid,
    create_engine,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    Trigger,
    state_column,
)
from tests.support.clock import ManualClock, manual_sources
from tests.support.parcels import close_app, enqueue

NESTED = {
    "a": [1, None, {"b": 'quo"te'}],
    "ž": "\\ 'x' ☃",
    "empty": [],
    "n": 1.5,
    "t": True,
}


class Base(DeclarativeBase): ...


class PostgresBase(DeclarativeBase): ...


class Listed(TypeDecorator[tuple[int, ...]]):
    """A type of the user's, kept as JSON."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return None if value is None else list(value)

    def process_result_value(self, value, dialect):
        return None if value is None else tuple(value)


class S(StrEnum):
    NEW = "new"
    DONE = "done"


WANTED: dict[str, Any] = {}
"""What the action writes: column → value."""


class Written:
    state: Mapped[S] = state_column(S, initial=S.NEW, final=(S.DONE,))


class Paper(Written, StatefulResource, Base):
    __tablename__ = "nested_papers"

    id: Mapped[int] = mapped_column(primary_key=True)
    plain: Mapped[Any | None] = mapped_column(JSON)
    binary: Mapped[Any | None] = mapped_column(
        JSON().with_variant(JSONB(), "postgresql")
    )
    nulled: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))
    listed: Mapped[tuple[int, ...] | None] = mapped_column(Listed)
    weight: Mapped[float | None]

    write = Trigger.on_demand("nested.paper")

    @write.action(S.NEW, S.DONE)
    def put_down(self, ctx: JobContext) -> None:
        for name, value in WANTED.items():
            setattr(self, name, value)


class Shelf(Written, StatefulResource, PostgresBase):
    __tablename__ = "nested_shelves"

    id: Mapped[int] = mapped_column(primary_key=True)
    numbers: Mapped[list[Any] | None] = mapped_column(ARRAY(Integer))
    texts: Mapped[list[Any] | None] = mapped_column(ARRAY(Text))
    grid: Mapped[list[Any] | None] = mapped_column(ARRAY(Float, dimensions=2))
    sums: Mapped[list[Any] | None] = mapped_column(ARRAY(Numeric(9, 3)))
    days: Mapped[list[Any] | None] = mapped_column(ARRAY(Date))
    times: Mapped[list[Any] | None] = mapped_column(ARRAY(DateTime(timezone=True)))
    ids: Mapped[list[Any] | None] = mapped_column(ARRAY(Uuid))
    blobs: Mapped[list[Any] | None] = mapped_column(ARRAY(LargeBinary))

    write = Trigger.on_demand("nested.shelf")

    @write.action(S.NEW, S.DONE)
    def put_down(self, ctx: JobContext) -> None:
        for name, value in WANTED.items():
            setattr(self, name, value)


def open_app(url, kind):
    """An app with the tables of *kind*."""
    app = StateJobs(
        url,
        domains=[Domain("nested", resources=[kind])],
        sources=manual_sources(ManualClock()),
    )
    app.create_all()
    kind.metadata.create_all(app.engine)
    return app


def finish_together(app, kind, number=2):
    """Run *number* actions and commit them in one batch; return what is left of it."""
    enqueue(app, kind, "put_down", number)
    runner = app.runner()
    done = [
        runner.attempts.run([claim])[0]
        for claim in runner.claim("default", limit=number)
    ]
    _, left = runner.finisher.finish_many(done)
    return left


def stored(app, kind, names):
    """Each record as it is loaded."""
    with app.session() as session:
        return [
            [getattr(row, name) for name in names]
            for row in session.scalars(select(kind))
        ]


@pytest.mark.parametrize("name", ["plain", "binary", "nulled"])
@pytest.mark.parametrize(
    "value",
    [NESTED, [], {}, [[1], [2]], "text", 'quo"te', 0, 1.5, True, None, [None], ["a"]],
)
def test_json_is_written_together(database_url, name, value):
    app = open_app(database_url, Paper)
    WANTED.clear()
    WANTED[name] = value

    assert finish_together(app, Paper) == []

    assert stored(app, Paper, [name]) == [[value]] * 2
    close_app(app)


def test_the_null_of_json_is_not_that_of_sql(database_url):
    app = open_app(database_url, Paper)
    WANTED.clear()
    WANTED.update(plain=JSON.NULL, nulled=None, listed=(1, 2), weight=0.1)

    assert finish_together(app, Paper) == []

    with app.session() as session:
        is_null = select(Paper.nulled.is_(None), Paper.plain.cast(Text), Paper.listed)
        assert [tuple(row) for row in session.execute(is_null)] == [
            (True, "null", (1, 2))
        ] * 2
    close_app(app)


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
@pytest.mark.parametrize(
    "values",
    [
        {
            "numbers": [1, None, -3],
            "texts": ["a,b", 'quo"te', "back\\slash", "", "NULL", None, "{}"],
        },
        {
            "numbers": [],
            "texts": [" x ", "\n\t", "ž☃", "'"],
            "grid": [[1.5, 2.0], [3.0, -0.25]],
        },
        {
            "sums": [Decimal("1.500"), None],
            "days": [date(2026, 11, 28)],
            "numbers": None,
        },
        {"times": [datetime(2026, 11, 28, 3, 4, 5, 678, UTC)], "ids": [UUID(int=7)]},
    ],
)
def test_arrays_are_written_together(database_url, values):
    app = open_app(database_url, Shelf)
    WANTED.clear()
    WANTED.update(values)

    assert finish_together(app, Shelf) == []

    assert stored(app, Shelf, values) == [[*values.values()]] * 2
    close_app(app)


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_what_no_array_carries_is_written_alone(database_url):
    app = open_app(database_url, Shelf)
    WANTED.clear()
    WANTED["blobs"] = [b"\x00\xff"]

    left = finish_together(app, Shelf)

    assert len(left) == 2
    assert [app.runner().finisher.finish(one).outcome for one in left] == [
        "complete"
    ] * 2
    assert stored(app, Shelf, ["blobs"]) == [[[b"\x00\xff"]]] * 2
    close_app(app)


@pytest.mark.postgres
def test_a_serializer_of_the_users_may_return_bytes(postgres_url):
    """As `orjson.dumps` does, with which SQLAlchemy works as well."""
    engine = create_engine(
        postgres_url, json_serializer=lambda value: dumps(value).encode()
    )
    app = open_app(engine, Paper)
    WANTED.clear()
    WANTED["plain"] = NESTED

    assert finish_together(app, Paper) == []

    assert stored(app, Paper, ["plain"]) == [[NESTED]] * 2
    close_app(app)
    engine.dispose()
