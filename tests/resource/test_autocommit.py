"""An engine whose every statement is a transaction is refused: a rollback would leave the job."""

import pytest
from sqlalchemy import create_engine, event, make_url, select, true
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from statejobs import ConfigurationError, Domain, StateJobs, configure_sqlite, task
from statejobs.store.tables import jobs, transitions
from tests.support.shop import Order, new_order, shop_engine

SHOP = Domain("shop", resources=[Order])


@task("autocommit.note")
def note() -> None: ...


@pytest.fixture
def engine(database_url):
    """An engine on a database that has the shop's tables."""
    with shop_engine(database_url) as opened:
        yield opened


def set_autocommit(connection, _record):
    """What a listener of the user's may do."""
    if hasattr(connection, "info"):
        connection.autocommit = True
    else:
        connection.isolation_level = None


def told_at_once(url):
    return create_engine(url, isolation_level="AUTOCOMMIT")


def told_by_option(url):
    return create_engine(url).execution_options(isolation_level="AUTOCOMMIT")


def told_the_driver(url):
    arguments = (
        {"isolation_level": None} if url.startswith("sqlite") else {"autocommit": True}
    )
    return create_engine(url, connect_args=arguments)


def told_by_a_listener(url):
    engine = create_engine(url, poolclass=NullPool)
    event.listen(engine, "connect", set_autocommit)
    return engine


WAYS = [told_at_once, told_by_option, told_the_driver, told_by_a_listener]


def submit_new(session):
    session.add(order := Order(total=1))
    order.submit()
    session.flush()


def submit_old(session):
    session.get_one(Order, 1).submit()
    session.flush()


def move_many(session):
    Order.cancel.bulk(session, where=true(), args={"reason": "all"})


def enqueue_action(session):
    Order.process_payment.enqueue(session, session.get_one(Order, 2))


def enqueue_task(session):
    note.enqueue(session)


DOORS = [submit_new, submit_old, move_many, enqueue_action, enqueue_task]


@pytest.mark.parametrize("told", WAYS[:2])
def test_an_app_refuses_the_engine(database_url, told):
    engine = told(database_url)
    if engine.dialect.name == "sqlite":
        configure_sqlite(engine)

    with pytest.raises(ConfigurationError, match="in AUTOCOMMIT") as refused:
        StateJobs(engine, domains=[SHOP])

    assert "execution_options" in refused.value.fix
    engine.dispose()


@pytest.mark.parametrize("told", WAYS)
@pytest.mark.parametrize("door", DOORS)
def test_a_session_on_it_writes_nothing(engine, told, door):
    new_order(engine)
    new_order(engine, submitted=True)
    before = everything(engine)
    other = told(engine.url.render_as_string(hide_password=False))

    with (
        Session(other) as session,
        pytest.raises(ConfigurationError, match="in AUTOCOMMIT"),
    ):
        door(session)

    other.dispose()
    assert everything(engine) == before


@pytest.mark.parametrize("door", DOORS)
def test_so_does_one_whose_connection_was_told(engine, door):
    new_order(engine)
    new_order(engine, submitted=True)
    before = everything(engine)
    other = create_engine(engine.url)

    with Session(other) as session:
        session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        with pytest.raises(ConfigurationError, match="in AUTOCOMMIT"):
            door(session)

    other.dispose()
    assert everything(engine) == before


@pytest.mark.parametrize("door", DOORS)
def test_a_session_that_commits_in_two_phases_writes_nothing(postgres_url, door):
    """SQLAlchemy itself refuses it on SQLite."""
    with shop_engine(postgres_url) as engine:
        new_order(engine)
        new_order(engine, submitted=True)
        before = everything(engine)

        with (
            Session(engine, twophase=True) as session,
            pytest.raises(ConfigurationError, match="twophase=True cannot store jobs"),
        ):
            door(session)

        assert everything(engine) == before


def begins_by_itself(url):
    """SQLAlchemy's recipe for savepoints on SQLite."""
    engine = create_engine(url)
    event.listen(engine, "connect", set_autocommit)
    event.listen(
        engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN")
    )
    return engine


@pytest.mark.parametrize("make", [create_engine, begins_by_itself])
@pytest.mark.parametrize("door", DOORS)
def test_an_engine_that_begins_is_served(engine, make, door):
    if make is begins_by_itself and make_url(engine.url).get_backend_name() != "sqlite":
        pytest.skip("a recipe for SQLite")
    new_order(engine)
    new_order(engine, submitted=True)
    before = everything(engine)
    other = make(engine.url)

    with Session(other) as session:
        door(session)
        session.rollback()

    other.dispose()
    assert everything(engine) == before


def everything(engine):
    """What is stored of records, jobs and history."""
    queries = [
        select(Order.id, Order.state),
        select(jobs.c.id, jobs.c.coalesced),
        select(transitions.c.id),
    ]
    with Session(engine) as session:
        return [sorted(map(tuple, session.execute(query))) for query in queries]
