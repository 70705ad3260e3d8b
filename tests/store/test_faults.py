"""One classification of the database's errors, seen on real ones."""

import psycopg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from statejobs.store.engines.factory import open_engine
from statejobs.store.faults import Fault, fault_of, is_away, may_last


@pytest.fixture
def engine(database_url):
    engine = open_engine(database_url)
    with engine.begin() as connection:
        connection.execute(
            text("CREATE TABLE place (seat INTEGER UNIQUE, CHECK (seat < 100))")
        )
        connection.execute(text("INSERT INTO place VALUES (1)"))
    yield engine
    engine.dispose()


def error_of(engine, statement):
    with engine.connect() as connection, pytest.raises(DBAPIError) as caught:
        connection.execute(text(statement))
    return caught.value


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("INSERT INTO place VALUES (1)", Fault.TAKEN),
        ("INSERT INTO place VALUES (100)", Fault.ROW),
        ("INSERT INTO places VALUES (1)", Fault.CODE),
        ("INSERT INTO place (seats) VALUES (1)", Fault.CODE),
        ("SELECT seats FROM place", Fault.CODE),
        ("SELECT no_such_function(1)", Fault.CODE),
    ],
)
def test_an_error_is_of_the_row_of_its_place_or_of_the_code(engine, statement, fault):
    assert fault_of(error_of(engine, statement)) is fault


@pytest.mark.parametrize(
    ("state", "fault"),
    [
        ("57P01", Fault.AWAY),
        ("57P02", Fault.AWAY),
        ("57P03", Fault.AWAY),
        ("53300", Fault.AWAY),
        ("08006", Fault.AWAY),
        ("57P05", Fault.AWAY),
        ("25006", Fault.READ_ONLY),
        ("40001", Fault.CONFLICT),
        ("40P01", Fault.CONFLICT),
        ("55P03", Fault.LOCKED),
        ("57014", Fault.INTERRUPTED),
        ("23P01", Fault.TAKEN),
        ("23514", Fault.ROW),
        ("23503", Fault.ROW),
        ("22P02", Fault.ROW),
        ("42501", Fault.CODE),
        ("P0001", Fault.ROW),
    ],
)
def test_postgresql_says_it_by_sqlstate(state, fault):
    said = psycopg.errors.lookup(state)("no")

    assert fault_of(DBAPIError.instance("SELECT 1", {}, said, psycopg.Error)) is fault


@pytest.mark.postgres
@pytest.mark.parametrize(
    "state", ["08001", "08006", "57P01", "53300", "25006", "25P03"]
)
def test_a_trigger_that_names_the_state_of_an_outage_is_none(postgres_url, state):
    engine = open_engine(postgres_url)
    raises = f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$"

    assert fault_of(error_of(engine, raises)) is Fault.ROW
    engine.dispose()


@pytest.mark.postgres
@pytest.mark.parametrize("state", ["40001", "55P03", "57014"])
def test_what_passes_may_last_when_code_in_the_database_raised_it(postgres_url, state):
    engine = open_engine(postgres_url)
    raises = f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$"

    assert may_last(error_of(engine, raises))
    engine.dispose()


SEATS = """
    CREATE TABLE halls (id INTEGER PRIMARY KEY, n INTEGER);
    INSERT INTO halls VALUES (1, 0);
    CREATE TABLE chairs (hall INTEGER REFERENCES halls);
    CREATE FUNCTION count_up() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN UPDATE halls SET n = n + 1 WHERE id = 1; RETURN NEW; END $$;
"""
COUNTED = "CREATE TRIGGER counted BEFORE INSERT ON chairs FOR EACH ROW EXECUTE FUNCTION count_up()"


@pytest.mark.postgres
@pytest.mark.parametrize("more", [COUNTED, "SELECT 1"], ids=["trigger", "foreign key"])
def test_a_lock_on_a_row_that_code_or_a_key_waits_for_passes(postgres_url, more):
    engine = open_engine(postgres_url)
    with engine.begin() as connection:
        connection.exec_driver_sql(SEATS)
        connection.exec_driver_sql(more)

    with engine.connect() as holder:
        holder.execute(text("SELECT 1 FROM halls FOR UPDATE"))
        with engine.connect() as connection, pytest.raises(DBAPIError) as caught:
            connection.execute(text("SET LOCAL lock_timeout = 50"))
            connection.execute(text("INSERT INTO chairs VALUES (1)"))

    assert fault_of(caught.value) is Fault.LOCKED
    assert not may_last(caught.value)
    engine.dispose()


@pytest.mark.postgres
def test_a_conflict_that_a_foreign_key_meets_passes(postgres_url):
    engine = open_engine(postgres_url)
    with engine.begin() as connection:
        connection.exec_driver_sql(SEATS)

    with engine.connect() as connection, pytest.raises(DBAPIError) as caught:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        connection.execute(text("SELECT 1"))
        with engine.begin() as another:
            another.execute(text("UPDATE halls SET id = 2"))
            another.execute(text("UPDATE halls SET id = 1"))
        connection.execute(text("INSERT INTO chairs VALUES (1)"))

    assert fault_of(caught.value) is Fault.CONFLICT
    assert not may_last(caught.value)
    engine.dispose()


@pytest.mark.postgres
def test_what_the_server_says_of_itself_is_an_outage(postgres_url):
    engine = open_engine(postgres_url)

    with engine.connect() as connection, pytest.raises(DBAPIError) as caught:
        connection.execute(text("SET TRANSACTION READ ONLY"))
        connection.execute(
            text("INSERT INTO pg_catalog.pg_largeobject_metadata VALUES (1)")
        )

    assert fault_of(caught.value) is Fault.READ_ONLY
    engine.dispose()


@pytest.mark.postgres
def test_a_table_altered_under_a_prepared_statement_is_a_conflict_that_passes(
    postgres_url,
):
    engine = open_engine(postgres_url)
    query = text("SELECT * FROM seats")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE seats (id INTEGER)"))

    with engine.connect() as connection:
        for _ in range(10):  # the driver prepares what comes again
            connection.execute(query)
        connection.commit()
        with engine.begin() as another:
            another.execute(text("ALTER TABLE seats ALTER COLUMN id TYPE BIGINT"))
        with pytest.raises(DBAPIError) as caught:
            connection.execute(query)
        connection.rollback()
        again = connection.execute(query).all()

    assert (fault_of(caught.value), again) == (Fault.CONFLICT, [])
    engine.dispose()


@pytest.mark.postgres
def test_a_connection_that_was_ended_is_away(postgres_url):
    engine = open_engine(postgres_url)

    with engine.connect() as connection, pytest.raises(DBAPIError) as caught:
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    assert is_away(caught.value)
    engine.dispose()


@pytest.mark.postgres
def test_a_server_that_nobody_can_reach_is_away():
    engine = open_engine("postgresql://nobody@127.0.0.1:1/nothing")

    with pytest.raises(DBAPIError) as caught:
        engine.connect()

    assert is_away(caught.value)


def test_a_pool_without_a_free_connection_is_away(sqlite_url):
    engine = create_engine(sqlite_url, pool_size=1, max_overflow=0, pool_timeout=0.01)

    with engine.connect(), pytest.raises(PoolTimeoutError) as caught:
        engine.connect()

    assert is_away(caught.value)
    engine.dispose()


def test_a_file_that_another_writer_holds_is_locked(sqlite_url):
    first = create_engine(sqlite_url, connect_args={"timeout": 0})
    with first.connect() as holder:
        holder.exec_driver_sql("BEGIN IMMEDIATE")
        error = error_of(first, "CREATE TABLE more (id INTEGER)")

    assert fault_of(error) is Fault.LOCKED
    first.dispose()


def test_other_errors_are_none_of_the_databases():
    assert fault_of(ValueError("no")) is None
    assert fault_of(psycopg.OperationalError("not through SQLAlchemy")) is None
