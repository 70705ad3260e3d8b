"""`ago` is read when its statement runs, of whatever kind the column is that it meets."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import (
    Column,
    DateTime,
    Integer,
    MetaData,
    Table,
    and_,
    create_engine,
    event,
    exists,
    func,
    insert,
    select,
)

from statejobs import StateJobsError, UtcDateTime, ago, utcnow
from statejobs.store.ago import ago_at, fit_to_columns

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
ALL = [1, 2, 3]
tables = MetaData()
moments = Table(
    "moments",
    tables,
    Column("id", Integer, primary_key=True),
    Column("aware", UtcDateTime),
    Column("zoned", DateTime(timezone=True)),
    Column("naive", DateTime),
)


@pytest.fixture
def connection(database_url):
    """Three moments: noon, an hour before, and two hours before; in a zone far from UTC."""
    engine = create_engine(database_url)
    with engine.connect() as opened:
        if engine.dialect.name == "postgresql":
            opened.exec_driver_sql("SET TIME ZONE 'Asia/Tokyo'")
        tables.create_all(opened)
        opened.execute(insert(moments), [row(n) for n in range(3)])
        yield opened
    engine.dispose()


def row(hours):
    at = NOON - timedelta(hours=hours)
    naive = at.replace(tzinfo=None)
    return {"id": hours + 1, "aware": at, "zoned": at, "naive": naive}


def found(connection, condition, at=NOON):
    """Which of the moments meet *condition*, reckoned from *at*."""
    fit_to_columns(condition)
    query = select(moments.c.id).where(condition).order_by(moments.c.id)
    with ago_at(at):
        return list(connection.scalars(query))


@pytest.mark.parametrize("name", ["aware", "zoned", "naive"])
def test_a_column_of_any_kind_is_compared_by_its_instant(connection, name):
    column = moments.c[name]

    assert found(connection, column < ago(minutes=30)) == [2, 3]
    assert found(connection, column < ago(minutes=90)) == [3]
    assert found(connection, ago(minutes=90) < column) == [1, 2]
    assert found(connection, column.between(ago(minutes=90), ago(minutes=30))) == [2]
    assert found(connection, func.coalesce(column, column) < ago(minutes=90)) == [3]
    assert found(connection, and_(column < ago(minutes=30), moments.c.id < 3)) == [2]


@pytest.mark.parametrize("name", ["aware", "zoned", "naive"])
def test_a_subquery_may_have_one(connection, name):
    other = moments.alias()
    older = exists().where(other.c.id == moments.c.id, other.c[name] < ago(minutes=90))

    assert found(connection, older) == [3]


def test_its_value_is_that_of_each_execution_and_the_statement_is_compiled_once(
    connection,
):
    def older():
        return moments.c.aware < ago(minutes=30)

    sent = []
    event.listen(
        connection,
        "before_cursor_execute",
        lambda _connection, _cursor, _text, _values, context, _many: sent.append(
            context.cache_hit.name
        ),
    )

    assert found(connection, older()) == [2, 3]
    assert found(connection, older(), at=NOON - timedelta(hours=1)) == [3]
    assert found(connection, older(), at=NOON + timedelta(hours=1)) == ALL
    assert sent[1:] == ["CACHE_HIT", "CACHE_HIT"]


def test_a_moment_may_be_told_in_any_zone(connection):
    tokyo = NOON.astimezone(timezone(timedelta(hours=9)))

    assert found(connection, moments.c.naive < ago(minutes=30), at=tokyo) == [2, 3]


def test_nothing_is_so_long_ago_that_no_time_is(connection):
    assert found(connection, moments.c.aware < ago(days=10**9)) == []
    assert found(connection, moments.c.aware > ago(timedelta.max)) == ALL


def test_beside_ticks_and_claims_it_is_reckoned_from_now(connection):
    at = utcnow() - timedelta(minutes=30)
    connection.execute(insert(moments), {"id": 4, "aware": at})

    young = select(moments.c.id).where(moments.c.aware > ago(hours=1))

    assert list(connection.scalars(young)) == [4]


def test_a_moment_that_is_told_ends_with_its_block(connection):
    query = select(moments.c.id).where(moments.c.aware < ago(minutes=90))

    with ago_at(NOON):
        with pytest.raises(ZeroDivisionError), ago_at(NOON + timedelta(hours=1)):
            _ = 1 / 0

        assert list(connection.scalars(query)) == [3]


def test_a_naive_moment_is_refused():
    with (
        pytest.raises(StateJobsError, match="naive datetime"),
        ago_at(NOON.replace(tzinfo=None)),
    ):
        pass
