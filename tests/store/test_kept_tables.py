"""A database whose tables stayed from one test to the next is as good as a new one."""

import uuid
from contextlib import contextmanager

import pytest
from sqlalchemy import create_engine, inspect, select, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs.store.tables import jobs
from tests.support.hostile import execute
from tests.support.kept_tables import SHAPE, KeptTables
from tests.support.parcels import Parcel, contradictions, post_office, send
from tests.support.shop import shop_engine

pytestmark = pytest.mark.postgres

CHANGES = [
    "ALTER TABLE parcels ADD COLUMN weight integer",
    "ALTER TABLE parcels ALTER COLUMN note SET NOT NULL",
    "ALTER TABLE parcels ALTER COLUMN stamps SET DEFAULT 7",
    "ALTER TABLE parcels ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE parcels SET (autovacuum_enabled = off)",
    "ALTER TABLE parcels RENAME TO packets",
    "ALTER SEQUENCE parcels_id_seq INCREMENT 5",
    "CREATE INDEX of_test ON parcels (note)",
    "CREATE TABLE of_test (id integer REFERENCES parcels)",
    "CREATE VIEW of_test AS SELECT * FROM parcels",
    "CREATE SCHEMA of_test",
    "CREATE TYPE of_test AS ENUM ('one')",
    "CREATE FUNCTION of_test() RETURNS integer LANGUAGE sql RETURN 1",
    "DROP INDEX ix_statejobs_transitions_record",
    "DROP TABLE items",
    "GRANT SELECT ON parcels TO PUBLIC",
    "INSERT INTO parcels (stamps, state, state_version) VALUES (1, 'packed', 1); ANALYZE parcels",
    "UPDATE statejobs_version SET version_num = '0001'",
    "DELETE FROM statejobs_version",
]
"""What a test may do to its database, after which its tables cannot stay."""


@pytest.fixture
def database(postgres_server):
    """One database, as tests use it one after the other."""
    name = f"statejobs_{uuid.uuid4().hex}"
    postgres_server.create_database(name)
    kept = KeptTables(postgres_server, name)

    @contextmanager
    def for_one_test():
        with kept.serve():
            yield postgres_server.url(name)
        postgres_server.empty_database(name, first=kept.put_away)

    with for_one_test() as url, post_office(url):
        pass  # what was made once is not kept yet
    yield for_one_test
    postgres_server.drop_database(name)


@contextmanager
def office(database):
    with database() as url, post_office(url) as app:
        yield app


def tables_of(app):
    return set(inspect(app.engine).get_table_names())


def oid_of(app, table="parcels"):
    with app.engine.connect() as connection:
        return connection.scalar(text(f"SELECT '{table}'::regclass::oid"))


def sizes(shape):
    """How many rows each catalog has."""
    return [part.split()[:2] for part in shape.split(", ")]


def shape_of(app):
    with app.engine.connect() as connection:
        driver = connection.connection.driver_connection
        return driver.execute(SHAPE).fetchone()[0]


def test_tables_stay(database):
    with office(database) as app:
        first = oid_of(app), shape_of(app)

    with office(database) as app:
        assert (oid_of(app), shape_of(app)) == first


def test_they_are_empty_and_count_from_one(database):
    for _ in range(3):
        with office(database) as app:
            assert send(app, 3) == [1, 2, 3]
            assert len(app.queries.jobs()) == 3
            app.drain()
            assert contradictions(app) == []
            app.check_tables()


def test_a_key_that_was_rolled_back_is_given_again(database):
    for _ in range(2):
        with office(database) as app, app.session() as session:
            parcel = Parcel()
            session.add(parcel)
            session.flush()
            assert parcel.id == 1


def test_nobody_sees_them_before_they_are_made(database):
    with office(database) as app:
        made = tables_of(app)

    with database() as url:
        engine = create_engine(url)
        assert inspect(engine).get_table_names() == []
        with pytest.raises(ProgrammingError), engine.connect() as connection:
            connection.execute(select(jobs))
        engine.dispose()
    with office(database) as app:
        assert tables_of(app) == made


@pytest.mark.parametrize("change", CHANGES)
def test_tables_that_a_test_changed_are_made_anew(database, change):
    with office(database) as app:
        first, shape = oid_of(app), sizes(shape_of(app))
        execute(app, change)

    with office(database) as app:
        assert oid_of(app) != first
        assert sizes(shape_of(app)) == shape
        assert send(app) == [1]


def test_other_tables_of_the_same_name_are_made_anew(database):
    class Base(DeclarativeBase):
        pass

    class Parcel(Base):
        __tablename__ = "parcels"
        number: Mapped[int] = mapped_column(primary_key=True)

    with office(database):
        pass

    with database() as url, shop_engine(url, Base) as engine:
        assert [c["name"] for c in inspect(engine).get_columns("parcels")] == ["number"]
    with office(database) as app:
        assert send(app) == [1]
