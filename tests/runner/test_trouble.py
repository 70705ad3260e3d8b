"""A real worker beside a record that cannot be claimed, and beside a table that is locked."""

import json
import logging
import threading
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError, OperationalError

from statejobs import Sources, StateJobs, WorkerSettings
from statejobs.events import DatabaseAway
from statejobs.people.workers import workers
from statejobs.runner.trouble import Trouble
from statejobs.values.job import JobState
from tests.support.clock import ManualClock
from tests.support.hostile import allow_updates, execute, refuse_updates
from tests.support.parcels import (
    POST,
    Letter,
    Message,
    Parcel,
    close_app,
    enqueue,
    job_of,
    reset_script,
    script,
    send,
    state_of,
)
from tests.support.processes import eventually

SETTINGS = WorkerSettings(
    lease=timedelta(seconds=10),
    heartbeat=timedelta(seconds=0.2),
    poll=timedelta(seconds=0.1),
)


@pytest.fixture
def app(database_url):
    """An app on the clock of this machine."""
    app = StateJobs(
        database_url,
        domains=[POST],
        settings=SETTINGS,
        sources=Sources(),
        queues={"default": 4, "second": 4},
    )
    app.create_all()
    yield app
    close_app(app)


class _ServerIsAwayError(Exception):
    sqlstate = "57P03"


def to_second_queue(app, kind):
    """Let the jobs of *kind* wait in the other queue."""
    execute(
        app,
        f"UPDATE statejobs_jobs SET queue = 'second' WHERE resource = '{kind.__name__}'",
    )


@contextmanager
def table_locked(app, table):
    """Somebody alters *table*, and takes his time."""
    with app.engine.connect() as connection:
        connection.exec_driver_sql("BEGIN")
        connection.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
        try:
            yield
        finally:
            connection.exec_driver_sql("ROLLBACK")


def is_completed(app, kind, keys):
    return all(job_of(app, kind, key).state is JobState.COMPLETED for key in keys)


def test_one_bad_record_disturbs_no_other_queue_and_nobody_says_the_database_is_away(
    app, caplog
):
    bad, *good = send(app, 6)
    others = enqueue(app, Letter, "press", 6)
    to_second_queue(app, Letter)
    refuse_updates(app, "parcels", f"NEW.id = {bad}")
    told = []
    app.telemetry.subscribe(lambda happening: told.append(type(happening)))

    with caplog.at_level(logging.WARNING), app.running():
        eventually(
            lambda: (
                is_completed(app, Parcel, good) and is_completed(app, Letter, others)
            )
        )
        eventually(lambda: job_of(app, Parcel, bad).state is JobState.FAILED)

    assert "the database is away" not in caplog.text
    assert DatabaseAway not in told
    allow_updates(app, "parcels")


def test_status_names_the_key_that_a_worker_cannot_claim_and_why(app, mending):
    (parcel,) = send(app)
    mend = mending("ALTER TABLE parcels RENAME COLUMN stamps_before TO stamps")
    execute(app, "ALTER TABLE parcels RENAME COLUMN stamps TO stamps_before")

    with app.running():
        (held,) = eventually(lambda: workers(app.desk)[0].held_keys)
        mend()
        eventually(lambda: is_completed(app, Parcel, [parcel]))
        eventually(lambda: not workers(app.desk)[0].held_keys)

    assert held["key"] == "parcel.send"
    assert "stamps" in held["reason"]


def test_an_outage_is_over_when_the_database_answers_though_every_slot_is_taken(
    app, caplog
):
    """With no slot free and more to do, a round asks for nothing, and so learns nothing."""
    gate, is_away = threading.Event(), threading.Event()
    script.send = lambda *_: gate.wait(60)
    send(app, 16)

    def fail(*_args):
        if is_away.is_set():
            raise OperationalError("SELECT 1", {}, _ServerIsAwayError())

    event.listen(app.engine, "before_cursor_execute", fail)
    with caplog.at_level(logging.WARNING), app.running() as worker:
        eventually(
            lambda: len(worker.held.all()) == 4 and worker._crew.lanes[0].has_more
        )
        is_away.set()
        eventually(lambda: "the database is away" in caplog.text)
        threading.Event().wait(1.5)
        said_while_away = list(caplog.messages)
        is_away.clear()
        eventually(lambda: "the database is back" in caplog.text)
        gate.set()

    reset_script()
    assert not any("is back" in message for message in said_while_away)
    assert len([m for m in caplog.messages if "the database is away" in m]) == 1


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_a_table_that_somebody_has_locked_stops_only_the_keys_that_need_it(app, caplog):
    parcels = send(app, 3)
    messages = enqueue(app, Message, "get", 3)
    letters = enqueue(app, Letter, "press", 3)
    to_second_queue(app, Letter)

    with caplog.at_level(logging.WARNING), table_locked(app, "parcels"), app.running():
        eventually(
            lambda: (
                is_completed(app, Message, messages)
                and is_completed(app, Letter, letters)
            )
        )
        eventually(lambda: "parcel.send" in caplog.text)

    assert "somebody has locked 'parcels'" in caplog.text
    with app.running():
        eventually(lambda: is_completed(app, Parcel, parcels))
    assert [state_of(app, Parcel, key) for key in parcels] == ["sent"] * 3
    assert all(
        app.queries.attempts(job_of(app, Parcel, key).id) == [] for key in parcels
    )


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_a_place_that_an_open_transaction_may_take_holds_up_one_job_only(app):
    waiting, *good = send(app, 6)
    execute(
        app,
        f"UPDATE parcels SET note = 'alice' WHERE id = {waiting}",
        "CREATE UNIQUE INDEX one_sending ON parcels (note) WHERE state = 'sending'",
    )
    with app.engine.connect() as connection:
        connection.exec_driver_sql("BEGIN")
        connection.execute(
            text(
                "INSERT INTO parcels (stamps, note, state, state_version, state_changed_at)"
                " VALUES (0, 'alice', 'sending', 1, now())"
            )
        )
        with app.running():
            eventually(lambda: is_completed(app, Parcel, good))
            eventually(lambda: job_of(app, Parcel, waiting).state is JobState.SCHEDULED)
        connection.exec_driver_sql("ROLLBACK")

    assert job_of(app, Parcel, waiting).attempt == 0


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
@pytest.mark.parametrize("sqlstate", ["08001", "57P01", "53300", "25006", "25P03"])
def test_a_trigger_of_one_row_that_names_an_outage_stops_nobody(app, caplog, sqlstate):
    bad, *good = send(app, 6)
    refuse_updates(app, "parcels", f"NEW.id = {bad}", sqlstate=sqlstate)

    with caplog.at_level(logging.WARNING), app.running():
        eventually(lambda: is_completed(app, Parcel, good))
        eventually(lambda: job_of(app, Parcel, bad).state is JobState.FAILED)

    assert "the database is" not in caplog.text


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_a_lock_that_the_trigger_of_one_row_does_not_get_holds_up_that_job_only(
    app, caplog
):
    waiting, *good = send(app, 6)
    refuse_updates(app, "parcels", f"NEW.id = {waiting}", sqlstate="55P03")

    with caplog.at_level(logging.WARNING), app.running():
        eventually(lambda: is_completed(app, Parcel, good))
        eventually(lambda: job_of(app, Parcel, waiting).state is JobState.SCHEDULED)

    assert job_of(app, Parcel, waiting).attempt == 0
    assert "no job of parcel.send can be claimed" not in caplog.text


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_a_lock_that_the_trigger_of_every_row_does_not_get_holds_the_key(app, caplog):
    parcels, messages = send(app, 6), enqueue(app, Message, "get", 3)
    refuse_updates(app, "parcels", "true", sqlstate="55P03")

    with caplog.at_level(logging.WARNING), app.running():
        eventually(lambda: is_completed(app, Message, messages))
        eventually(lambda: "no job of parcel.send can be claimed" in caplog.text)
        allow_updates(app, "parcels")
        eventually(lambda: is_completed(app, Parcel, parcels))

    assert {job_of(app, Parcel, key).attempt for key in parcels} == {1}


def refused_write(app):
    """The error of a write while nobody may write."""
    postgres = app.engine.dialect.name == "postgresql"
    with app.engine.connect() as connection:
        connection.exec_driver_sql(
            "SET TRANSACTION READ ONLY" if postgres else "PRAGMA query_only = ON"
        )
        try:
            connection.execute(text("UPDATE parcels SET stamps = 1"))
        except DBAPIError as error:
            return error
        finally:
            connection.rollback()
            if not postgres:
                connection.exec_driver_sql("PRAGMA query_only = OFF")
    raise AssertionError("it was written")


def test_a_database_that_is_read_only_is_told_once_and_is_not_away(app, caplog):
    told = []
    app.telemetry.subscribe(lambda happening: told.append(type(happening)))
    trouble, error = Trouble(app.sources, app.telemetry), refused_write(app)

    for _ in range(3):
        trouble.met(error)
    trouble.is_over()

    assert caplog.messages[0].startswith(
        "the database is read-only, nothing is claimed"
    )
    assert caplog.messages[1:] == ["the database can be written again"]
    assert told == []


def test_a_queue_whose_claim_fails_rests_while_the_others_go_on(app, caplog):
    clock = ManualClock()
    trouble = Trouble(Sources(clock=clock), app.telemetry)
    tried = []

    def fill(queue):
        tried.append(queue)
        if queue == "default":
            raise ValueError("a bug of ours")
        return True

    for _ in range(3):
        for queue in ("default", "second"):
            trouble.guard(queue, partial(fill, queue))
    clock.advance(seconds=0.2)
    trouble.guard("default", partial(fill, "default"))

    assert (tried.count("default"), tried.count("second")) == (2, 3)
    assert caplog.messages == ["nothing of queue 'default' could be claimed"]


def test_what_a_node_holds_is_json(app):
    runner = app.runner()
    runner.claiming.held.hold("parcel.send", "no column", ValueError("no column"))

    (row,) = json.loads(runner.claiming.held.as_json())

    assert (row["key"], row["reason"], row["retry_seconds"]) == (
        "parcel.send",
        "no column",
        1.0,
    )
