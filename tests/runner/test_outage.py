"""What the database does to an attempt is not the action's fault, and costs it nothing."""

from types import SimpleNamespace

import pytest
from sqlalchemy import Engine, event, text, update
from sqlalchemy.exc import OperationalError

from statejobs import JobState
from statejobs.store.tables import jobs
from statejobs.values.lifecycle import MOST_RETURNS
from tests.support.parcels import (
    Letter,
    Message,
    Parcel,
    add,
    attempts_of,
    enqueue,
    job_of,
    load,
    post_office,
    script,
    send,
    state_of,
    steps,
)

CONFLICTS = {
    "40001": "serialization",
    "40P01": "deadlock",
    "25006": "read-only",
    "57P05": "idle session",
}
OWN = {
    "57014": "statement timeout",
    "55P03": "lock timeout",
    "25P03": "left open",
    "23505": "twice",
}
FORMS = {
    "def": (Parcel, "send_off", "send"),
    "atomic": (Letter, "press", "seal"),
    "async": (Message, "get", "fetch"),
}


class ServerError(Exception):
    def __init__(self, sqlstate):
        super().__init__(f"injected {sqlstate}")
        self.sqlstate = sqlstate


def refusal(sqlstate):
    return OperationalError("SELECT 1", {}, ServerError(sqlstate))


def let(form, error):
    """Let the action of *form* raise *error*; None lets it succeed."""

    def body(*_args):
        if error is not None:
            raise error

    async def async_body(*_args):
        body()

    setattr(script, FORMS[form][2], async_body if form == "async" else body)


def asked(app, form):
    """Commit a record of *form* with a job; return its class and key."""
    kind, action, _ = FORMS[form]
    (key,) = enqueue(app, kind, action)
    return kind, key


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sqlstate", CONFLICTS, ids=CONFLICTS.values())
def test_an_attempt_that_the_database_failed_is_given_back(app, clock, form, sqlstate):
    kind, key = asked(app, form)
    let(form, refusal(sqlstate))

    assert app.drain().counts == {"give_back": 1}

    job = job_of(app, kind, key)
    assert (job.state, job.attempt, job.returned) == (JobState.SCHEDULED, 0, 1)
    assert job.reason.startswith("given back: (")  # and then the words of the database
    assert attempts_of(app, kind, key) == []
    let(form, None)
    clock.advance(seconds=0.1)
    assert app.drain().counts == {"complete": 1}
    assert (job_of(app, kind, key).attempt, job_of(app, kind, key).returned) == (1, 0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sqlstate", OWN, ids=OWN.values())
def test_what_its_own_statements_meet_is_the_actions_failure(app, form, sqlstate):
    kind, key = asked(app, form)
    let(form, refusal(sqlstate))

    assert app.drain().counts == {"fail": 1}
    assert [row[:2] for row in attempts_of(app, kind, key)] == [(1, "failed")]


def test_a_body_that_always_deadlocks_is_not_given_back_for_ever(app, clock):
    (key,) = send(app)
    let("def", refusal("40P01"))
    waits = []

    for _ in range(MOST_RETURNS):
        assert app.drain().counts == {"give_back": 1}
        waits.append((job_of(app, Parcel, key).run_at - clock.now()).total_seconds())
        clock.advance(seconds=waits[-1])

    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30]
    assert app.drain().counts == {"fail": 1}
    job = job_of(app, Parcel, key)
    assert (job.state, job.attempt, job.returned) == (JobState.FAILED, 1, 0)


def test_a_record_goes_back_to_its_source_when_its_attempt_is_given_back(app):
    (key,) = send(app)
    let("def", refusal("40001"))
    app.drain()

    assert state_of(app, Parcel, key) == "packed"
    assert steps(app, Parcel, key)[-1] == ("return.packed", "sending", "packed")


def test_a_person_may_cancel_what_the_database_gives_back(app):
    (key,) = send(app)

    def cancel_and_fail(*_args):
        with app.engine.begin() as connection:
            connection.execute(
                update(jobs).values(cancel_requested=True, reason="enough")
            )
        raise refusal("40001")

    script.send = cancel_and_fail

    assert app.drain().counts == {"cancel": 1}
    assert job_of(app, Parcel, key).reason == "enough"


@pytest.mark.parametrize("form", FORMS)
def test_a_fault_of_the_database_in_the_finish_is_not_the_actions(
    app, clock, form, request
):
    """Its writes are undone with it, so the body runs again; or they are known, and repeated."""
    kind, key = asked(app, form)
    faults = [refusal("40001")]

    def refuse(connection, cursor, statement, *_args):
        is_finish = "statejobs_jobs" in statement and "cancel_requested" in statement
        if is_finish and "UPDATE" in statement and state.is_finishing and faults:
            raise faults.pop()

    state = SimpleNamespace(is_finishing=False)

    def begin_finish(*_args):
        state.is_finishing = True

    async def begin_finish_async(*_args):
        state.is_finishing = True

    setattr(
        script, FORMS[form][2], begin_finish_async if form == "async" else begin_finish
    )
    # that of the loop is made by the drain
    event.listen(Engine, "before_cursor_execute", refuse)
    request.addfinalizer(lambda: event.remove(Engine, "before_cursor_execute", refuse))

    counts = dict(app.drain().counts)
    clock.advance(seconds=1)
    for outcome, count in app.drain().counts.items():
        counts[outcome] = counts.get(outcome, 0) + count

    assert counts in ({"complete": 1}, {"give_back": 1, "complete": 1})
    assert attempts_of(app, kind, key) == []
    assert job_of(app, kind, key).attempt == 1


# Connections -------------------------------------------------------------------------------------


def cut_all(app):
    """End every connection to the database but this, as a restart or a firewall does."""
    with app.engine.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )


@pytest.fixture
def postgres_app(postgres_url, clock):
    with post_office(postgres_url, clock=clock) as opened:
        yield opened


@pytest.fixture
def other(postgres_url, clock):
    """The same database through connections of its own."""
    with post_office(postgres_url, clock=clock, prefix="f") as opened:
        yield opened


@pytest.mark.postgres
@pytest.mark.parametrize("form", FORMS)
def test_connections_that_died_in_the_pool_burn_no_attempt(postgres_app, other, form):
    kind, key = asked(postgres_app, form)
    let(form, None)
    assert postgres_app.drain().counts == {"complete": 1}
    kind, key = asked(postgres_app, form)

    cut_all(other)

    assert postgres_app.drain().counts == {"complete": 1}
    assert attempts_of(postgres_app, kind, key) == []


@pytest.mark.postgres
def test_a_user_meets_no_connection_that_died_in_the_pool(postgres_app, other):
    add(postgres_app, Parcel())

    cut_all(other)

    for _ in range(3):
        add(postgres_app, Parcel())


@pytest.mark.postgres
@pytest.mark.parametrize("form", FORMS)
def test_a_connection_lost_with_all_others_is_not_the_actions_fault(
    postgres_app, other, form
):
    kind, key = asked(postgres_app, form)

    def write_while_all_are_cut(record, ctx, *_args):
        ctx.session.execute(text("CREATE TEMPORARY TABLE mine (id int)"))
        cut_all(other)
        ctx.session.execute(text("SELECT 1"))

    async def write_while_all_are_cut_async(record, ctx):
        await ctx.session.execute(text("CREATE TEMPORARY TABLE mine (id int)"))
        cut_all(other)
        await ctx.session.execute(text("SELECT 1"))

    is_async = form == "async"
    body = write_while_all_are_cut_async if is_async else write_while_all_are_cut
    setattr(script, FORMS[form][2], body)
    with postgres_app.engine.connect(), postgres_app.engine.connect():
        """A worker has several in its pool."""

    assert postgres_app.drain().counts == {"give_back": 1}
    assert job_of(postgres_app, kind, key).attempt == 0


@pytest.mark.postgres
def test_a_connection_that_only_the_body_lost_is_its_own_failure(postgres_app, other):
    (key,) = send(postgres_app)
    mine = text("SELECT pg_backend_pid()")

    def end_own_connection(parcel, ctx):
        ctx.session.execute(text("CREATE TEMPORARY TABLE mine (id int)"))
        with other.engine.connect() as connection:
            pid = ctx.session.execute(mine).scalar_one()
            connection.execute(text(f"SELECT pg_terminate_backend({pid}, 5000)"))
        ctx.session.execute(mine)

    script.send = end_own_connection
    with postgres_app.engine.connect():  # another one lives on
        assert postgres_app.drain().counts == {"fail": 1}
    assert load(postgres_app, Parcel, key).state.value == "packed"
