"""What a server has by default, or lets nobody have, costs no attempt."""

import time
from contextlib import ExitStack
from datetime import timedelta

import pytest
from sqlalchemy import create_engine, make_url, select, text
from sqlalchemy.exc import DBAPIError

from statejobs import WorkerSettings
from statejobs.store.tables import attempts, jobs
from statejobs.values.clock import Sources
from tests.faults.settings import limit_connections, set_default
from tests.support.parcels import (
    Item,
    Letter,
    Message,
    Parcel,
    contradictions,
    enqueue,
    post_office,
    reset_script,
    script,
    send,
)

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(120)]

NUMBER = 12
DEFAULTS = {
    "default_transaction_isolation": ["serializable", "repeatable read"],
    "lock_timeout": ["50ms"],
    "statement_timeout": ["300ms"],
    "idle_session_timeout": ["400ms"],
}
GIVEN = [(name, value) for name, values in DEFAULTS.items() for value in values]
SETTINGS = WorkerSettings(
    poll=timedelta(seconds=0.2),
    lease=timedelta(seconds=6),
    heartbeat=timedelta(seconds=1),
    # a busy machine may let a body stand for long
    idle_in_transaction=timedelta(minutes=2),
)


def write_item(parcel, ctx):
    ctx.session.add(Item(name="stamp", parcel_id=parcel.id))


def count(letter, _ctx):
    letter.grams += 1


async def read_and_write(message, ctx):
    await ctx.session.execute(select(Message.id))
    message.text = "read"


@pytest.fixture(autouse=True)
def _bodies():
    script.send, script.seal, script.fetch = write_item, count, read_and_write
    yield
    reset_script()


FORMS = ((Parcel, "send_off"), (Letter, "press"), (Message, "get"))


def send_all(app, forms=FORMS):
    """Commit jobs of every form; a user of such a server tries again, as he must."""
    for kind, action in forms:
        for _ in range(NUMBER):
            while True:
                try:
                    enqueue(app, kind, action)
                except DBAPIError:
                    continue
                break


def told(app):
    with app.engine.connect() as connection:
        states = [*connection.scalars(select(jobs.c.state))]
        tried = connection.execute(select(attempts.c.outcome, attempts.c.message)).all()
        crashes = sum(connection.scalars(select(jobs.c.crashes)))
    return states, tried, crashes


def wait_for_end(app, seconds=60):
    give_up_at = time.monotonic() + seconds
    while time.monotonic() < give_up_at:
        if set(told(app)[0]) == {"completed"}:
            return
        time.sleep(0.1)  # noqa: TID251 - the workers need their time


def assert_no_attempt_was_burnt(app, number):
    states, tried, crashes = told(app)
    assert (set(states), tried, crashes) == ({"completed"}, [], 0)
    assert len(states) == number
    assert contradictions(app) == []


@pytest.mark.parametrize(("name", "value"), GIVEN, ids=[value for _, value in GIVEN])
def test_no_attempt_is_burnt_by_a_default_of_the_server(
    postgres_server, postgres_url, name, value
):
    with ExitStack() as stack:
        plain = stack.enter_context(post_office(postgres_url, sources=Sources()))
        set_default(postgres_server, make_url(postgres_url).database, name, value)
        apps = [
            stack.enter_context(
                post_office(postgres_url, sources=Sources(), settings=SETTINGS)
            )
            for _ in range(2)
        ]
        for app in apps:
            stack.enter_context(app.running())

        send_all(apps[0])
        wait_for_end(plain)
        time.sleep(0.5)  # noqa: TID251 - idle sessions are ended
        send(apps[0])
        wait_for_end(plain)

        assert_no_attempt_was_burnt(plain, 3 * NUMBER + 1)


def test_who_listens_may_be_idle_for_longer_than_the_server_lets_others(
    postgres_server, postgres_url
):
    listening = text(
        "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
        " AND datname = current_database()"
    )
    with post_office(postgres_url, sources=Sources()) as plain:
        database = make_url(postgres_url).database
        set_default(postgres_server, database, "idle_session_timeout", "400ms")
        with (
            post_office(postgres_url, sources=Sources(), settings=SETTINGS) as app,
            app.running(),
            plain.engine.execution_options(
                isolation_level="AUTOCOMMIT"
            ).connect() as connection,
        ):
            while not (before := connection.scalars(listening).all()):
                time.sleep(0.01)  # noqa: TID251
            time.sleep(1.2)  # noqa: TID251 - thrice as long

            assert connection.scalars(listening).all() == before


def test_an_attempt_waits_for_a_lock_longer_than_the_server_lets_others(
    postgres_server, postgres_url
):
    with ExitStack() as stack:
        plain = stack.enter_context(post_office(postgres_url, sources=Sources()))
        set_default(
            postgres_server, make_url(postgres_url).database, "lock_timeout", "50ms"
        )
        app = stack.enter_context(
            post_office(postgres_url, sources=Sources(), settings=SETTINGS)
        )

        def hold_record(parcel, ctx):
            held.append(stack.enter_context(plain.session()))
            held[0].get_one(Parcel, parcel.id, with_for_update=True)
            ctx.session.add(Item(name="stamp", parcel_id=parcel.id))

        held = []
        script.send = hold_record
        send(plain)
        stack.enter_context(app.running())
        while not held:
            time.sleep(0.01)  # noqa: TID251
        time.sleep(0.4)  # noqa: TID251 - longer than the server lets others wait
        held[0].rollback()
        wait_for_end(plain)

        assert_no_attempt_was_burnt(plain, 1)
        assert plain.queries.jobs(limit=1)[0].attempt == 1


def test_no_attempt_is_burnt_where_connections_are_few(postgres_server, postgres_url):
    """Three in the pool, and seven that the server accepts."""
    with post_office(postgres_url, sources=Sources()) as plain:
        url = limit_connections(postgres_server, make_url(postgres_url), 7)
        engine = create_engine(url, pool_size=3, max_overflow=0, pool_timeout=5)
        with (
            post_office(engine, sources=Sources(), settings=SETTINGS) as app,
            app.running(),
        ):
            send_all(plain, FORMS[:2])
            wait_for_end(plain)

        assert_no_attempt_was_burnt(plain, 2 * NUMBER)
