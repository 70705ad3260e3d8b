"""The record of a job is locked and checked before anything else that its action locks."""

import contextlib
import threading

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from statejobs import StaleTransitionError, TransitionRefusedError
from statejobs.store.engines.defaults import wait_as_long_as_it_takes
from statejobs.store.engines.lazy_begin import in_transaction
from tests.support.forms import (
    FORMS,
    LOOSE,
    Board,
    Plain,
    board,
    office,
    script,
    write_on_board,
)
from tests.support.parcels import attempts_of, enqueue, fire, job_of, state_of
from tests.support.processes import DEADLINE, eventually


@pytest.fixture
def app(database_url):
    """An app with an action in each form."""
    with office(database_url) as opened:
        yield opened


def webhook(app, form, key, ended):
    """Move the record, then write what its job writes as well; as a request of a user does."""
    try:
        with app.session() as session:
            wait_as_long_as_it_takes(session.connection())
            session.get_one(form, key).stop()
            session.flush()
            write_on_board(session)
            session.commit()
        ended.append("stopped")
    except (StaleTransitionError, TransitionRefusedError, DBAPIError) as error:
        ended.append(type(error).__name__)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
@pytest.mark.parametrize("writes", ["at once", "with its flush"])
def test_a_webhook_and_its_job_that_write_the_same_row_never_deadlock(
    app, form, writes
):
    (key,) = enqueue(app, form, "act")
    ended, threads = [], []

    def body(_records, session, _ctx):
        if writes == "at once":
            write_on_board(session)
        else:
            session.get_one(Board, 1).n += 1
        thread = threading.Thread(target=webhook, args=[app, form, key, ended])
        threads.append(thread)
        thread.start()
        thread.join(0.3)

    script.body = body
    app.drain()
    threads[0].join(DEADLINE)

    assert attempts_of(app, form, key) in ([], [(1, "superseded", None)])
    assert (ended, state_of(app, form, key)) in (
        (["StaleTransitionError"], "done"),
        (["TransitionRefusedError"], "done"),  # it came when all was over
        (["stopped"], "stopped"),
    )
    assert board(app) == 1


@pytest.mark.parametrize("form", LOOSE, ids=lambda form: form.__name__)
@pytest.mark.parametrize("first", ["write", "locking read", "flush"])
def test_a_record_that_has_moved_ends_the_attempt_at_its_first_write_though_it_is_caught(
    app, form, first
):
    (key,) = enqueue(app, form, "act")
    went_on = []

    def body(_records, session, _ctx):
        fire(app, form, key, "stop")
        try:
            match first:
                case "write":
                    write_on_board(session)
                case "locking read":
                    session.scalars(select(Board).with_for_update()).all()
                case "flush":
                    session.get_one(Board, 1).n += 1
                    session.flush()
        except Exception:  # noqa: BLE001 - as a body that tolerates everything does
            went_on.append("after an error")
        went_on.append("after it")

    script.body = body
    app.drain()

    assert (went_on, board(app)) == ([], 0)
    assert (job_of(app, form, key).state.value, state_of(app, form, key)) == (
        "cancelled",
        "stopped",
    )
    assert "left by stop" in job_of(app, form, key).reason or "moved to 'stopped'" in (
        job_of(app, form, key).reason
    )


def test_a_body_that_catches_everything_keeps_nothing_of_a_record_that_has_moved(app):
    (key,) = enqueue(app, Plain, "act")

    def body(_records, session, _ctx):
        fire(app, Plain, key, "stop")
        for _ in range(2):
            with contextlib.suppress(BaseException):  # the worst that a body may do
                write_on_board(session)

    script.body = body
    app.drain()

    assert (job_of(app, Plain, key).state.value, board(app)) == ("cancelled", 0)


@pytest.mark.parametrize("form", LOOSE, ids=lambda form: form.__name__)
def test_a_record_that_is_gone_ends_the_attempt_at_its_first_write(app, form):
    (key,) = enqueue(app, form, "act")

    def body(_records, session, _ctx):
        with app.engine.begin() as connection:
            connection.execute(text(f"DELETE FROM {form.__tablename__}"))
        write_on_board(session)

    script.body = body
    app.drain()

    job = job_of(app, form, key)
    assert (job.state.value, job.reason) == (
        "cancelled",
        "superseded: the record is gone",
    )


def test_one_record_of_a_call_that_has_moved_lets_the_others_run_by_themselves(app):
    form = LOOSE[2]
    first, second = enqueue(app, form, "act", 2)

    def body(records, session, _ctx):
        if len(records) > 1:
            fire(app, form, first, "stop")
        write_on_board(session)

    script.body = body
    app.drain()

    assert [state_of(app, form, key) for key in (first, second)] == ["stopped", "done"]
    assert board(app) == 1


@pytest.mark.parametrize("form", LOOSE, ids=lambda form: form.__name__)
def test_reading_locks_nothing(app, form):
    (key,) = enqueue(app, form, "act")
    seen = []

    def body(records, session, _ctx):
        session.scalars(select(Board)).all()
        seen.append(in_transaction(session.connection()))
        fire(app, form, key, "stop")

    script.body = body
    app.drain()

    assert seen == [False]
    assert state_of(app, form, key) == "stopped"


# Locking reads -----------------------------------------------------------------------------------


LOCKING_READS = {
    "select": lambda session: session.scalars(select(Board).with_for_update()).one(),
    "get": lambda session: session.get(Board, 1, with_for_update=True),
    "refresh": lambda session: (
        session.refresh(found := session.get(Board, 1), with_for_update=True) or found
    ),
    "query": lambda session: session.query(Board).with_for_update().one(),
    "core": lambda session: session.execute(
        select(Board.__table__).with_for_update()
    ).one(),
    "within": lambda session: session.scalars(
        select(Board).where(Board.id.in_(select(Board.id).with_for_update()))
    ).one(),
    "share": lambda session: session.scalars(
        select(Board).with_for_update(read=True)
    ).one(),
}


@pytest.mark.parametrize("way", LOCKING_READS)
def test_a_locking_read_locks_on_either_database(app, way):
    for _ in range(2):  # the second time, its statement is compiled already
        with app.session() as session:
            LOCKING_READS[way](session)
            assert in_transaction(session.connection())


@pytest.mark.parametrize("way", ["select", "get", "query", "core"])
def test_of_two_that_lock_what_they_read_the_second_waits_and_sees(app, way):
    seen, read = [], threading.Event()

    def second():
        with app.session() as session:
            read.set()
            seen.append(LOCKING_READS[way](session).n)

    with app.session() as session:
        LOCKING_READS[way](session)
        thread = threading.Thread(target=second)
        thread.start()
        read.wait(DEADLINE)
        thread.join(0.2)
        assert seen == []
        write_on_board(session)
        session.commit()

    assert eventually(lambda: seen == [1])
    thread.join(DEADLINE)
