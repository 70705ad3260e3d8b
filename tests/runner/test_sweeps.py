"""Records whose time in a state is over are moved: by SQL alone where that can, else one by one."""

import logging
import threading
from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy import insert, select, update

from statejobs import (
    StaleTransitionError,
    TransitionRefusedError,
    WorkerSettings,
    acting_as,
)
from statejobs.events import StatesTimedOut
from statejobs.store.tables import schedules
from statejobs.work.sweeps import sweep
from tests.support.plans import recording
from tests.support.processes import eventually
from tests.support.services import run_service
from tests.support.shop import read_jobs
from tests.support.tickets import (
    DAY,
    FAILURES,
    HOUR,
    Case,
    Complaint,
    Lawsuit,
    Lease,
    Share,
    Ticket,
    TicketState,
    office,
    put,
    states,
    timeout_of,
)

S = TicketState
SECOND = timedelta(seconds=1)


@pytest.fixture
def app(database_url):
    with office(database_url) as opened:
        yield opened


def sweep_once(app, key, cursor=None, **most):
    """One sweep of that timeout, whoever is elected."""
    return app._sweeper.sweep(timeout_of(app, key), cursor, **most)


def history(app, record, resource="Ticket"):
    return [
        (row["name"], row["source"], row["target"], row["actor"])
        for row in app.queries.transitions(resource, record)
    ]


def test_records_move_when_their_time_is_over(app):
    put(app, S.OPEN, 2, age=DAY)
    put(app, S.HELD, 1, age=DAY + HOUR, first=3)
    put(app, S.OPEN, 1, age=DAY - SECOND, first=4)
    put(app, S.FAILED, 1, age=DAY, first=5, tries=3)

    app.sources.clock.advance(seconds=0.5)
    swept = sweep_once(app, "Ticket.expire")

    assert swept.moved == 3
    assert states(app) == {
        1: S.CLOSED,
        2: S.CLOSED,
        3: S.CLOSED,
        4: S.OPEN,
        5: S.FAILED,
    }
    assert history(app, 1) == [("expire", "open", "closed", "statejobs")]
    assert history(app, 3) == [("expire", "held", "closed", "statejobs")]
    with app.session() as session:
        ticket = session.get(Ticket, 1)
        assert ticket.state_version == 2
        assert ticket.state_changed_at == app.sources.clock.now() == ticket.closed_at


def test_a_body_and_a_guard_of_python_are_asked_record_by_record(app):
    put(app, S.ASKED, 3, age=2 * HOUR)
    app.sources.clock.advance(SECOND)

    assert sweep_once(app, "Ticket.ask_again").moved == 3

    with app.session() as session:
        assert [t.tries for t in session.scalars(select(Ticket))] == [1, 1, 1]
    assert history(app, 2) == [("ask_again", "asked", "open", "statejobs")]


def test_a_failed_import_is_tried_again_until_it_has_no_tries_left(app):
    put(app, S.FAILED, 1, age=HOUR)
    put(app, S.FAILED, 1, age=HOUR, first=2, tries=3)

    for _ in range(2):
        app.drain()
        app.sources.clock.advance(HOUR)
    (job,) = read_jobs(app.engine)

    assert (job.record_id, job.attempt, job.actor) == ("1", 2, "statejobs")
    assert states(app) == {1: S.FAILED, 2: S.FAILED}
    names = [name for name, *_ in history(app, 1)]
    assert names[0] == "retry_later"
    assert names.count("retry_later") == 2


def test_a_promised_job_of_the_state_ends_as_left(app):
    with app.session() as session:
        ticket = Ticket(id=1)
        session.add(ticket)
        ticket.ask()
        session.commit()
    app.sources.clock.advance(2 * HOUR)

    app.drain()

    (job,) = read_jobs(app.engine)
    assert (job.key, job.outcome, job.reason) == (
        "ticket.remind",
        "left",
        "left by ask_again",
    )


def test_whom_a_guard_refuses_hides_nobody(app):
    put(app, S.OPEN, 5, age=2 * DAY, is_kept=True)
    put(app, S.OPEN, 2, age=DAY, first=6)
    app.sources.clock.advance(SECOND)

    walk = [sweep.Swept(cursor=None)]
    for _ in range(3):
        walk.append(sweep_once(app, "Ticket.expire", walk[-1].cursor, most=3))

    assert [one.moved for one in walk[1:]] == [0, 1, 1]
    assert walk[-1].cursor is None
    assert [*states(app).values()] == [S.OPEN] * 5 + [S.CLOSED] * 2


def test_records_of_one_instant_are_walked_by_their_keys(app):
    since = {"state_changed_at": app.sources.clock.now() - 2 * DAY}
    put(app, S.OPEN, 7, age=DAY, **since)

    first = sweep_once(app, "Ticket.expire", None, most=3)
    second = sweep_once(app, "Ticket.expire", first.cursor, most=3)
    third = sweep_once(app, "Ticket.expire", second.cursor, most=3)

    assert [one.moved for one in (first, second, third)] == [3, 3, 1]
    assert (first.is_more, third.is_more) == (True, False)


def test_a_walk_goes_on_in_the_next_source(app):
    put(app, S.OPEN, 2, age=2 * DAY)
    put(app, S.HELD, 3, age=2 * DAY, first=3)

    first = sweep_once(app, "Ticket.expire", None, most=3)
    second = sweep_once(app, "Ticket.expire", first.cursor, most=3)

    assert (first.moved, second.moved, second.cursor) == (3, 2, None)
    assert set(states(app).values()) == {S.CLOSED}


@pytest.mark.parametrize("cursor", ["", "{}", '["gone",0,"1"]', '["open","x","1"]'])
def test_a_cursor_of_other_code_begins_anew(app, cursor):
    put(app, S.OPEN, 2, age=2 * DAY)

    assert sweep_once(app, "Ticket.expire", cursor).moved == 2


@pytest.mark.parametrize("tries", [8, *FAILURES])
def test_one_that_raises_stops_no_other(app, caplog, tries):
    put(app, S.ASKED, 4, age=DAY, tries=0)
    with app.engine.begin() as connection:
        connection.execute(update(Ticket).where(Ticket.id == 2).values(tries=tries))

    with caplog.at_level(logging.ERROR, "statejobs.sweep"):
        sweeps = [sweep_once(app, "Ticket.ask_again").moved for _ in range(2)]

    assert sweeps == [3, 0]
    assert states(app)[2] is S.ASKED
    assert [record.getMessage() for record in caplog.records] == [
        "timeout:Ticket.ask_again leaves Ticket 2 where it is"
    ]


def test_one_that_the_database_refuses_stops_no_other(app, caplog):
    """One statement for all is refused; then it is done record by record."""
    put(app, S.OPEN, 4, age=2 * DAY)
    with app.engine.begin() as connection:
        refuse = (
            "CREATE TRIGGER no BEFORE UPDATE ON tickets WHEN OLD.id = 3 "
            "BEGIN SELECT RAISE(ABORT, 'no'); END"
            if app.engine.dialect.name == "sqlite"
            else "ALTER TABLE tickets ADD CHECK (id <> 3 OR state <> 'closed')"
        )
        connection.exec_driver_sql(refuse)

    assert sweep_once(app, "Ticket.expire").moved == 3

    assert states(app)[3] is S.OPEN


def test_one_for_whom_a_guard_raises_in_sql_stops_no_other(app):
    with app.session() as session:
        session.add_all([Share(parts=parts) for parts in (1, 0, 2)])
        session.commit()
    app.sources.clock.advance(hours=25)

    assert sweep_once(app, "Share.expire").moved == 2

    with app.session() as session:
        assert session.get_one(Share, 2).state is S.OPEN


@pytest.mark.postgres
@pytest.mark.parametrize("key", ["Ticket.expire", "Ticket.ask_again"])
def test_whom_somebody_holds_is_left_to_the_next_sweep(postgres_url, key):
    with office(postgres_url) as app:
        source = timeout_of(app, key).declared.source[0]
        put(app, source, 3, age=2 * DAY)
        with app.session() as session:
            session.execute(
                select(Ticket.id).where(Ticket.id == 2).with_for_update()
            ).all()

            assert sweep_once(app, key).moved == 2

        assert sweep_once(app, key).moved == 1


def test_the_class_says_which_of_its_family_time_out(app):
    with app.session() as session:
        session.add_all([Case(id="a"), Complaint(id="b"), Lawsuit(id="c")])
        session.commit()
    app.sources.clock.advance(DAY)

    app.drain()
    assert set(states(app, Case).values()) == {S.HELD}

    app.sources.clock.advance(DAY)
    app.drain()
    assert states(app, Case) == {"a": S.CLOSED, "b": S.CLOSED, "c": S.QUEUED}


def test_a_timeout_of_a_subclass_moves_its_records_alone(app):
    with app.session() as session:
        session.add_all([Case(id="a"), Complaint(id="b"), Lawsuit(id="c")])
        session.commit()
    app.sources.clock.advance(HOUR)

    assert sweep_once(app, "Case.Complaint.ask").moved == 1

    assert states(app, Case) == {"a": S.OPEN, "b": S.ASKED, "c": S.OPEN}
    assert history(app, "b", "Case")[-1] == ("ask", "open", "asked", "statejobs")


def test_a_permission_is_not_asked_of_time(app):
    put(app, S.OPEN, 1, age=2 * DAY)

    with acting_as("user:nobody"):
        assert sweep_once(app, "Ticket.expire").moved == 1

    assert history(app, 1) == [("expire", "open", "closed", "statejobs")]


def test_others_who_move_a_record_meanwhile_win_or_lose(app):
    """Each record leaves its state once, by the sweep or by somebody else."""
    put(app, S.OPEN, 60, age=2 * DAY)
    won = []

    def hold(start):
        for key in range(start, 61, 2):
            with suppress(StaleTransitionError, TransitionRefusedError):
                with app.session() as session:
                    session.get(Ticket, key).hold()
                    session.commit()
                won.append(key)

    others = [threading.Thread(target=hold, args=(start,)) for start in (1, 2)]
    for other in others:
        other.start()
    moved = sum(sweep_of_open(app) for _ in range(10))
    for other in others:
        other.join()

    assert len(won) + moved + [*states(app).values()].count(S.OPEN) == 60
    for key, state in states(app).items():
        names = [name for name, *_ in history(app, key)]
        assert names == {S.OPEN: [], S.HELD: ["hold"], S.CLOSED: ["expire"]}[state]
    assert [*states(app).values()].count(S.HELD) == len(won)


def sweep_of_open(app):
    """Sweep those who are open; who was held meanwhile has time again."""
    return sweep_once(app, "Ticket.expire").moved


def test_a_running_worker_moves_them(database_url):
    """In the thread of its service."""
    settings = WorkerSettings(sweep=timedelta(seconds=0.1))
    with office(database_url, settings=settings) as app:
        put(app, S.FAILED, 1, age=2 * HOUR, tries=1)
        with app.running():
            eventually(lambda: states(app)[1] is S.QUEUED or history(app, 1))

        assert history(app, 1)[0] == ("retry_later", "failed", "queued", "statejobs")


def test_each_tenant_has_its_own_history_and_job(app):
    homes = [("a", 1, "ada"), ("a", 2, "bob"), ("b", 1, None)]
    with app.session() as session:
        session.add_all(
            [Lease(house=house, number=n, owner=owner) for house, n, owner in homes]
        )
        session.commit()
    app.sources.clock.advance(DAY)

    first = sweep_once(app, "Lease.ask", most=2)
    second = sweep_once(app, "Lease.ask", first.cursor)

    assert (first.moved, second.moved) == (2, 1)
    told = {
        (job.record_id, job.tenant, job.actor, job.args)
        for job in read_jobs(app.engine)
    }
    assert told == {
        ('["a",1]', "ada", "statejobs", '{"house":"a"}'),
        ('["a",2]', "bob", "statejobs", '{"house":"a"}'),
        ('["b",1]', None, "statejobs", '{"house":"b"}'),
    }
    (_, row) = app.queries.transitions("Lease", ("a", 2))
    assert (row["name"], row["actor"], row["tenant"]) == ("ask", "statejobs", "bob")


def test_it_tells_how_many_and_how_late(app):
    told = []
    app.telemetry.subscribe(told.append, StatesTimedOut)
    put(app, S.OPEN, 2, age=DAY + HOUR)
    put(app, S.OPEN, 1, age=DAY + 2 * HOUR, first=3, is_kept=True)

    sweep_once(app, "Ticket.expire")
    sweep_once(app, "Ticket.expire")

    (event,) = told
    assert event.event == "states.timed_out"
    assert (event.resource, event.transition) == ("Ticket", "expire")
    assert (event.moved, event.kept, event.lag) == (2, 1, 3600.0)


def test_a_worker_sweeps_every_ten_seconds(app):
    worker = app.worker()
    put(app, S.OPEN, 1, age=DAY - 15 * SECOND)

    assert run_service(worker, "sweep") == 10 * SECOND
    app.sources.clock.advance(4 * SECOND)
    assert run_service(worker, "sweep") == 6 * SECOND
    app.sources.clock.advance(6 * SECOND)
    assert run_service(worker, "sweep") == 10 * SECOND
    assert states(app) == {1: S.OPEN}
    app.sources.clock.advance(10 * SECOND)
    run_service(worker, "sweep")

    assert states(app) == {1: S.CLOSED}


def test_one_node_at_a_time_sweeps(database_url, app):
    with office(database_url) as other:
        clock = other.sources.clock
        run_service(app.worker(), "sweep")
        put(app, S.OPEN, 1, age=2 * DAY)

        assert run_service(other.worker(), "sweep") == 10 * SECOND
        assert states(app) == {1: S.OPEN}

        clock.advance(10 * SECOND)
        run_service(other.worker(), "sweep")
        assert states(app) == {1: S.CLOSED}


def test_there_is_more_at_once_while_records_move(app, monkeypatch):
    monkeypatch.setattr(sweep, "AT_ONCE", 1)
    monkeypatch.setattr(sweep, "_PATIENCE", 0.0)
    put(app, S.ASKED, 3, age=DAY)
    worker = app.worker()

    assert run_service(worker, "sweep") == SECOND
    assert [*states(app).values()] == [S.OPEN, S.ASKED, S.ASKED]
    app.sources.clock.advance(SECOND)
    assert run_service(worker, "sweep") == SECOND
    app.sources.clock.advance(SECOND)
    assert run_service(worker, "sweep") == 8 * SECOND
    assert set(states(app).values()) == {S.OPEN}


def test_who_is_paused_is_not_swept(app):
    worker = app.worker()
    run_service(worker, "sweep")
    app.pause_schedule("timeout:Ticket.expire")
    put(app, S.OPEN, 1, age=2 * DAY)
    app.sources.clock.advance(10 * SECOND)

    run_service(worker, "sweep")
    app.drain()
    assert states(app) == {1: S.OPEN}

    app.resume_schedule("timeout:Ticket.expire")
    run_service(worker, "sweep")
    assert states(app) == {1: S.CLOSED}


def test_one_that_no_code_declares_any_more_is_named_so(app):
    run_service(app.worker(), "sweep")
    with app.engine.begin() as connection:
        gone = {"key": "timeout:Gone.expire", "spec": "x"}
        connection.execute(insert(schedules).values(**gone))

    undeclared = [one.key for one in app.schedules() if not one.is_declared]

    assert undeclared == ["timeout:Gone.expire"]


def test_the_code_that_was_started_last_sweeps(app, database_url, caplog):
    older, worker = app.worker(), None
    run_service(older, "sweep")
    with app.engine.begin() as connection:
        of_it = schedules.c.key == "timeout:Ticket.expire"
        connection.execute(update(schedules).where(of_it).values(spec="newer"))
    put(app, S.OPEN, 1, age=2 * DAY)
    app.sources.clock.advance(10 * SECOND)

    for _ in range(2):
        run_service(older, "sweep")

    assert states(app) == {1: S.OPEN}
    said = [r.getMessage() for r in caplog.records if "Ticket.expire" in r.getMessage()]
    assert said == [
        "schedule timeout:Ticket.expire is left to other code, which has another "
        "timetable for it and was started later"
    ]
    with office(database_url) as again:
        again.sources.clock.advance(10 * SECOND)
        worker = again.worker()
        run_service(worker, "sweep")
        assert states(app) == {1: S.CLOSED}


def test_what_is_due_to_nobody_costs_one_question(app):
    worker = app.worker()
    run_service(worker, "sweep")

    with recording("statejobs_schedules", "tickets", "cases") as seen:
        run_service(worker, "sweep")

    assert len(seen) == 1
