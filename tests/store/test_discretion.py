"""What is kept of an error of the database holds no value of a user."""

import pytest
from sqlalchemy import (
    CheckConstraint,
    Column,
    Integer,
    MetaData,
    Table,
    Text,
    insert,
    text,
)
from sqlalchemy import create_engine as open_by_user
from sqlalchemy.exc import DBAPIError

from statejobs.store.engines.factory import open_engine
from statejobs.values.failure import describe_failure

SECRET = "jane@example.org"
metadata = MetaData()
people = Table(
    "people",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("email", Text, unique=True),
    Column("age", Integer, CheckConstraint("age < 200", name="old")),
)


@pytest.fixture(params=["ours", "the user's"])
def engine(request, database_url):
    opened = (
        open_engine(database_url)
        if request.param == "ours"
        else open_by_user(database_url)
    )
    metadata.create_all(opened)
    yield opened
    opened.dispose()


def kept_of(engine, *statements):
    with pytest.raises(DBAPIError) as raised, engine.begin() as connection:
        for statement, parameters in statements:
            connection.execute(statement, parameters)
    return describe_failure(raised.value), raised.value


def row(**values):
    return insert(people), {"id": 1, "email": SECRET, "age": 7, **values}


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        ([row(), row(id=2)], "email"),
        ([row(age=300)], "old"),
        ([row(email=f"{SECRET}\n\n[SQL: nothing]\n(Background", age=300)], "old"),
    ],
)
def test_rows_and_parameters_are_not_kept(engine, statements, said):
    failure, _ = kept_of(engine, *statements)

    assert SECRET not in failure.message + failure.traceback
    assert said in failure.message
    # of the user's own statement it may stand
    assert "INSERT INTO people" in failure.traceback


def test_a_statement_fills_no_message(engine):
    failure, _ = kept_of(engine, row(age=300))

    assert "INSERT" not in failure.message
    assert "sqlalche.me" not in failure.message
    assert failure.cause == failure.message.splitlines()[0]
    assert failure.cause.startswith(
        ("(psycopg.errors.CheckViolation) ", "(sqlite3.IntegrityError")
    )


def test_a_message_that_repeats_a_statement_is_cut_too(engine):
    _, error = kept_of(engine, row(age=300))
    wrapped = RuntimeError(f"cannot save: {error}")
    wrapped.__cause__ = error

    said = describe_failure(wrapped).message

    assert said.startswith("cannot save: (")
    assert "INSERT" not in said


def test_an_error_that_repeats_another_ones_words_keeps_no_more(engine):
    _, error = kept_of(engine, row(), row(id=2))
    try:
        raise RuntimeError(f"cannot save: {error}") from error
    except RuntimeError as wrapped:
        failure = describe_failure(wrapped)

    assert SECRET not in failure.message + failure.traceback
    assert failure.message.startswith("cannot save: ")


@pytest.mark.postgres
@pytest.mark.parametrize("kind", ["integer", "json", "timestamptz"])
def test_a_value_that_cannot_be_read_is_not_kept(postgres_url, kind):
    engine = open_engine(postgres_url)

    failure, _ = kept_of(
        engine, (text(f"SELECT CAST(:given AS {kind})"), {"given": SECRET})
    )

    assert SECRET not in failure.message + failure.traceback
    assert "invalid input syntax" in failure.message
    engine.dispose()


@pytest.mark.postgres
def test_a_lost_prepared_statement_names_the_option_for_poolers(postgres_url):
    engine = open_engine(postgres_url)

    failure, _ = kept_of(engine, (text('EXECUTE "_pg3_0"'), {}))

    assert "?prepare_threshold=none" in failure.message
    engine.dispose()
