"""The verifier and the invariant view see seeded damage; so their silence means something."""

import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from sqlalchemy import delete, insert, select, update

from statejobs.store.tables import attempts, jobs, schedules, ticks, transitions
from statejobs.values.job import JobState
from tests.chaos import app as chaos_app
from tests.chaos.app import (
    FOREIGN,
    LEDGER,
    Deposit,
    Does,
    Effect,
    Errand,
    Gift,
    State,
    make_app,
    strike,
)
from tests.chaos.invariants import violations
from tests.chaos.people import People
from tests.chaos.rows import garble
from tests.chaos.submitter import ACKNOWLEDGED, LOCKED, RECOVERED, TORN
from tests.chaos.verifier import find_late, find_reclaims, verify

IDS = {"a1": Does.WRITE, "b2": Does.SPAWN, "c3": Does.TOUCH}
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
ACKS = [f"{ACKNOWLEDGED} {id_}" for id_ in IDS]


@pytest.fixture
def app(database_url, tmp_path, monkeypatch):
    """The app, with one errand of each kind done, and their gift."""
    monkeypatch.setenv(LEDGER, str(tmp_path / "ledger"))
    app = make_app(database_url)
    app.create_all()
    submit(app, IDS)
    app.drain()
    with damage(app) as connection:  # the clock of the machine makes no ticks
        connection.execute(update(schedules).values(paused_at=NOON))
    yield app
    app.close()


@pytest.fixture
def ledger(tmp_path):
    return (tmp_path / "ledger").read_text().splitlines


def submit(app, errands, dress=None, **columns):
    with app.session() as session:
        made = [Errand(id=id_, does=does, **columns) for id_, does in errands.items()]
        session.add_all(made)
        for errand in made:
            errand.submit()
        if dress is not None:
            dress(session, made)
        session.commit()


@contextmanager
def damage(app):
    """A connection past the ORM and its guards."""
    with app.engine.begin() as connection:
        yield connection


def judge(app, acks=ACKS, ledger=(), until=None):
    with app.engine.connect() as connection:
        return verify(connection, app, acks=acks, ledger=ledger, until=until)


def rules(app):
    with app.engine.connect() as connection:
        return {row["rule"] for row in violations(connection, app)}


def drain_until_failed(app, errand):
    """Run what is due until *errand* has failed for good."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        app.drain()
        with app.session() as session:
            if session.get(Errand, errand).state == State.FAILED:
                return
        time.sleep(0.1)  # noqa: TID251
    raise TimeoutError(errand)


def of(errand):
    """The condition of its jobs and history."""
    return f'"{errand}"'


def test_finds_nothing_where_nothing_is_wrong(app, ledger):
    verdict = judge(app, ledger=ledger())

    assert verdict.is_clean, verdict


def test_finds_nothing_while_jobs_wait(app):
    submit(app, {"d4": Does.NAP, "e5": Does.STUMBLE})
    app.step(2)

    assert rules(app) == set()


def test_sees_a_lost_record(app):
    with damage(app) as connection:
        connection.execute(delete(Errand.__table__).where(Errand.id == "a1"))

    assert any("acknowledged, not there: a1" in line for line in judge(app).lost)


def test_sees_a_lost_job(app):
    submit(app, {"d4": Does.WRITE})
    with damage(app) as connection:
        connection.execute(delete(jobs).where(jobs.c.record_id == of("d4")))

    assert rules(app) == {"promised job is missing, or twice"}
    assert judge(app).unfinished == ["Errand d4 is queued"]


def test_sees_a_promised_job_twice(app):
    submit(app, {"d4": Does.WRITE})
    with damage(app) as connection:
        row = connection.execute(select(jobs).where(jobs.c.record_id == of("d4"))).one()
        copy = {**row._mapping, "dedupe_key": "another", "state": "scheduled"}
        del copy["id"]
        connection.execute(insert(jobs), copy)

    assert rules(app) == {"promised job is missing, or twice"}


def test_sees_a_doubled_effect(app):
    with damage(app) as connection:
        connection.execute(insert(Effect.__table__), {"record": "a1", "attempt": 2})

    assert judge(app).doubled == ["effects of a1 (completed): 2, not 1"]


def test_sees_an_effect_that_was_lost_with_its_completion_kept(app):
    with damage(app) as connection:
        connection.execute(delete(Effect.__table__).where(Effect.record == "a1"))

    assert judge(app).lost == ["effects of a1 (completed): 0, not 1"]


def test_sees_a_count_that_ran_twice(app):
    with damage(app) as connection:
        connection.execute(
            update(Errand.__table__).where(Errand.id == "c3").values(count=2)
        )

    assert judge(app).doubled == ["count of c3 (completed): 2, not 1"]


def test_sees_an_effect_of_what_was_cancelled(app):
    submit(app, {"d4": Does.WRITE})
    with app.session() as session:
        session.get(Errand, "d4").cancel()
        session.commit()
    with damage(app) as connection:
        connection.execute(insert(Effect.__table__), {"record": "d4", "attempt": 1})

    assert judge(app).doubled == ["effects of d4 (cancelled): 1, not 0"]


def test_sees_an_enqueue_that_happened_twice(app):
    with app.session() as session:
        session.add(Gift(id="e5", giver="b2"))
        session.commit()

    assert judge(app).doubled == ["gifts of b2 (completed, spawn): 2, not 1"]


def test_sees_what_nobody_asked_for(app):
    verdict = judge(app, acks=ACKS[1:])

    assert verdict.illegal == ["nobody asked for it: a1"]


def test_sees_half_of_a_commit_and_a_lock_that_reached_a_user(app):
    verdict = judge(app, acks=[*ACKS[1:], f"{TORN} a1", f"{LOCKED} OperationalError"])

    assert verdict.illegal == [
        "half of a commit: a1",
        "reached a user: OperationalError",
    ]


def test_takes_a_recovered_commit_for_promised(app):
    assert judge(app, acks=[*ACKS[1:], f"{RECOVERED} a1"]).is_clean


def test_sees_a_second_idempotency_key(app, ledger):
    verdict = judge(app, ledger=[*ledger(), "a1 another-key 2 new"])

    assert verdict.illegal == ["a1 ran under 2 keys"]


def test_sees_a_completion_that_never_ran(app, ledger):
    verdict = judge(
        app, ledger=[line for line in ledger() if not line.startswith("a1")]
    )

    assert verdict.lost == ["completed, never ran: a1"]


def test_sees_the_old_version_run_what_it_does_not_know(app, ledger):
    with app.session() as session:
        gift = session.scalars(select(Gift)).one()
    mistaken = [line.replace(" new", " old") for line in ledger()]

    verdict = judge(app, ledger=mistaken)

    assert verdict.illegal == [f"the old version ran a key it does not know: {gift.id}"]


def test_sees_a_state_that_history_does_not_know(app):
    with damage(app) as connection:
        connection.execute(
            update(Errand.__table__)
            .where(Errand.id == "a1")
            .values(state=State.CANCELLED)
        )

    assert rules(app) == {"state is not the last of history"}


@pytest.mark.parametrize("version", [0, 1, 2])
def test_sees_a_broken_chain(app, version):
    with damage(app) as connection:
        connection.execute(
            delete(transitions).where(
                transitions.c.record_id == of("a1"), transitions.c.version == version
            )
        )

    assert rules(app) == {"history has a gap or a version twice", "history is no chain"}


def test_sees_an_illegal_edge(app):
    mine = transitions.c.record_id == of("a1")
    with damage(app) as connection:
        connection.execute(
            update(transitions)
            .where(mine, transitions.c.version == 2)
            .values(target="failed")
        )
        connection.execute(
            update(transitions)
            .where(mine, transitions.c.version == 3)
            .values(source="failed")
        )

    assert rules(app) == {"history took an edge that nobody declared"}


def test_sees_a_record_that_runs_without_a_job(app):
    submit(app, {"d4": Does.WRITE})
    with damage(app) as connection:
        connection.execute(
            update(Errand.__table__)
            .where(Errand.id == "d4")
            .values(state=State.PROCESSING)
        )

    assert rules(app) == {
        "state is not the last of history",
        "record runs without a job",
        "job waits for a record that is elsewhere",
    }


def test_lets_a_job_wait_that_a_tick_made_for_a_record_which_has_left_since(app):
    submit(app, {"d4": Does.WRITE})
    with damage(app) as connection:
        mine = update(jobs).where(jobs.c.record_id == of("d4"))
        connection.execute(mine.values(tick_at=jobs.c.run_at))
        connection.execute(
            update(Errand.__table__)
            .where(Errand.id == "d4")
            .values(state=State.PROCESSING)
        )

    assert rules(app) == {
        "state is not the last of history",
        "record runs without a job",
    }


def test_sees_a_job_that_runs_on_a_record_elsewhere(app):
    submit(app, {"d4": Does.WRITE})
    with damage(app) as connection:
        connection.execute(
            update(jobs)
            .where(jobs.c.record_id == of("d4"))
            .values(
                state="processing",
                token="t",
                owner="o",
                lease_until=jobs.c.run_at,
                attempt=1,
            )
        )

    assert rules(app) == {
        "promised job is missing, or twice",
        "job runs on a record that is elsewhere",
    }


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"state": "processing", "cancel_requested": True}, "running job has no lease"),
        ({"finished_at": None}, "ended job has no end"),
        ({"outcome": None}, "job has no outcome for its end, or one before it"),
        ({"outcome": "left"}, "job has no outcome for its end, or one before it"),
        ({"state": "queued"}, "job has no outcome for its end, or one before it"),
        ({"attempt": 9}, "job has more attempts than it may"),
        ({"attempt": 2}, "attempts do not add up"),
        ({"state": "dreaming"}, "job is in no known state"),
    ],
)
def test_sees_a_job_that_contradicts_itself(app, values, rule):
    with damage(app) as connection:
        connection.execute(
            update(jobs).where(jobs.c.record_id == of("a1")).values(**values)
        )

    assert rule in rules(app)


def test_sees_a_completed_job_that_moved_no_record(app):
    mine = transitions.c.record_id == of("a1")
    with damage(app) as connection:
        connection.execute(
            update(transitions)
            .where(mine, transitions.c.version == 3)
            .values(job_id=None)
        )

    assert rules(app) == {"completed job moved no record"}


def test_sees_an_attempt_that_was_not_recorded(app):
    submit(app, {"d4": Does.STUMBLE})
    app.step()
    with damage(app) as connection:
        connection.execute(delete(attempts))

    assert rules(app) == {"attempts do not add up"}


def test_sees_what_is_left_unfinished(app):
    submit(app, {"d4": Does.WRITE})

    verdict = judge(app, acks=[*ACKS, f"{ACKNOWLEDGED} d4"])

    assert verdict.unfinished == ["Errand d4 is queued", f"job 5 is {JobState.QUEUED}"]
    assert not verdict.is_clean


@pytest.fixture
def overtaken(app, monkeypatch):
    """An errand that was cancelled while its action ran."""

    def cancel(*_):
        with app.session() as session:
            session.get(Errand, "d4").cancel()
            session.commit()

    submit(app, {"d4": Does.WRITE})
    monkeypatch.setattr(Errand, "_hesitate", cancel)
    app.step()


def test_knows_that_history_tells_the_end_of_a_job_that_was_overtaken(app, overtaken):
    assert rules(app) == set()


def test_sees_an_overtaken_job_whose_record_nobody_moved(app, overtaken):
    with damage(app) as connection:
        mine = jobs.c.record_id == of("d4")
        connection.execute(update(jobs).where(mine).values(outcome="cancelled"))

    assert rules(app) == {"attempts do not add up"}


def test_a_record_that_the_database_refuses_to_begin_fails_and_can_be_mended(app):
    submit(app, {"d4": Does.REFUSED, "e5": Does.WRITE})
    drain_until_failed(app, "d4")

    with app.session() as session:
        assert session.get(Errand, "e5").state == State.COMPLETED
        refused = session.get(Errand, "d4")
        assert refused.state == State.FAILED
        assert rules(app) == set()
        refused.mend()
        session.commit()
    app.drain()

    assert judge(app, acks=[*ACKS, f"{ACKNOWLEDGED} d4", f"{ACKNOWLEDGED} e5"]).is_clean


def test_sees_a_job_of_another_app_that_was_touched(app):
    submit(app, {"d4": Does.WRITE, "e5": Does.WRITE})
    with damage(app) as connection:
        foreign = update(jobs).where(jobs.c.record_id.in_([of("d4"), of("e5")]))
        connection.execute(foreign.values(key=f"{FOREIGN}queued"))
        connection.execute(
            update(jobs).where(jobs.c.record_id == of("d4")).values(attempt=1)
        )

    (touched,) = [line for line in judge(app).illegal if "another app" in line]
    assert touched == "job 5 of another app was touched: it is queued"


def drain_until_at_rest(app, *ids):
    """Run what is due, and let people do their part, until these errands have ended."""
    people = People(app, Random(1), every=1, cancels=0)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        app.drain()
        people._look()
        with app.engine.connect() as connection:
            states = select(Errand.__table__.c.state).where(
                Errand.__table__.c.id.in_(ids)
            )
            if set(connection.scalars(states)) <= {State.COMPLETED, State.CANCELLED}:
                return
        time.sleep(0.1)  # noqa: TID251
    raise TimeoutError(ids)


def test_rivals_for_one_place_all_complete_without_a_burnt_attempt(app):
    submit(app, dict.fromkeys(("d4", "e5", "f6"), Does.QUEUE_UP), customer="alice")
    drain_until_at_rest(app, "d4", "e5", "f6")

    verdict = judge(
        app, acks=[*ACKS, *(f"{ACKNOWLEDGED} {id_}" for id_ in ("d4", "e5", "f6"))]
    )

    assert verdict.is_clean, verdict
    with app.engine.connect() as connection:
        assert connection.execute(select(attempts)).all() == []


@pytest.mark.parametrize(
    "words",
    [
        'IntegrityError: duplicate key violates unique constraint "chaos_one_place"',
        "IntegrityError: UNIQUE constraint failed: chaos_errands.customer",
        'OperationalError: FATAL: too many connections for role "chaos_worker"',
        'OperationalError: FATAL: too many connections for database "chaos"',
    ],
)
def test_sees_an_attempt_burnt_by_what_is_no_fault_of_the_action(app, words):
    submit(app, {"d4": Does.STUMBLE})
    app.step()
    with damage(app) as connection:
        connection.execute(update(attempts).values(message=words))

    assert judge(app).illegal[-1] == f"attempt 1 of job 5 was burnt: {words}"


def test_what_cannot_be_decoded_ends_by_itself_and_is_neither_lost_nor_unfinished(app):
    submit(app, {"d4": Does.GARBLED, "e5": Does.UNREAD}, dress=garble)
    submit(app, {"f6": Does.WRITE})
    app.drain()

    assert rules(app) == set()
    drain_until_at_rest(app, "d4", "e5", "f6")
    verdict = judge(
        app, acks=[*ACKS, *(f"{ACKNOWLEDGED} {id_}" for id_ in ("d4", "e5", "f6"))]
    )
    assert verdict.is_clean, verdict
    with app.session() as session:
        ends = {id_: session.get(Errand, id_).state for id_ in ("d4", "e5", "f6")}
    assert ends == {"d4": State.COMPLETED, "e5": State.CANCELLED, "f6": State.COMPLETED}


def test_sees_an_errand_that_waits_for_a_job_given_up_for_another_reason(app):
    submit(app, {"e5": Does.UNREAD}, dress=garble)
    app.drain()
    with damage(app) as connection:
        mine = jobs.c.record_id == of("e5")
        connection.execute(update(jobs).where(mine).values(reason="given up"))

    assert rules(app) == {"promised job is missing, or twice"}
    assert "Errand e5 is queued" in judge(app).unfinished


@pytest.fixture
def deposit(app, monkeypatch):
    """A deposit that was put away."""
    monkeypatch.setattr(chaos_app, "HOLDS", 0.0)
    with app.session() as session:
        session.add(Deposit(id="d4"))
        session.commit()
    app.drain()
    return "d4"


def test_counts_a_deposit_as_asked_for_and_done(app, deposit, ledger):
    with app.engine.connect() as connection:
        told = [*ACKS, f"{ACKNOWLEDGED} {deposit}"]
        assert verify(connection, app, acks=told, ledger=ledger()).is_clean


def test_sees_a_deposit_that_was_put_away_twice(app, deposit):
    with damage(app) as connection:
        connection.execute(insert(Effect.__table__), {"record": deposit, "attempt": 2})

    assert judge(app, acks=()).doubled == ["effects of d4 (completed): 2, not 1"]


def test_measures_from_the_kill_to_the_next_claim_or_from_when_somebody_could_claim(
    app,
):
    mine = transitions.c.record_id == of("a1")
    with damage(app) as connection:
        start = select(transitions).where(mine, transitions.c.name.like("%.start"))
        claim = connection.execute(start).one()
        rescued = {
            "job_id": claim.job_id,
            "attempt": 0,
            "outcome": "crashed",
            "node": "n",
        }
        connection.execute(insert(attempts), {**rescued, "finished_at": claim.at})
    killed = claim.at - timedelta(seconds=4)
    away = (claim.at - timedelta(seconds=3), claim.at - timedelta(seconds=2))

    with app.engine.connect() as connection:
        (reclaim,) = find_reclaims(connection, app, {"n": killed})
        (after,) = find_reclaims(connection, app, {"n": killed}, [away])

    assert (reclaim.seconds, after.seconds) == (4, 2)
    assert "crash 1" in str(after)
    assert "possible after 2.0 s, rescued after 4.0 s, claimed after 4.0 s" in str(
        after
    )


# Ticks -------------------------------------------------------------------------------------------


def tick(app, *minutes):
    """Let a schedule tick at minutes after noon, as a worker does, a quarter of a second late."""
    with app.session() as session:
        for minute in minutes:
            at = NOON + timedelta(minutes=minute)
            began = at + timedelta(seconds=0.25)
            row = {"key": strike.key, "at": at, "began_at": began, "enqueued": 1}
            session.execute(insert(ticks).values(**row, skipped=0, done_at=began))
            job = strike.enqueue(session)
            of_tick = update(jobs).where(jobs.c.id == job.job_id)
            session.execute(of_tick.values(tick_at=at))
        session.commit()


def test_finds_nothing_where_each_instant_has_its_tick(app, ledger):
    tick(app, 0, 1, 2)
    app.drain()

    verdict = judge(app, ledger=ledger(), until=NOON + timedelta(minutes=2))

    assert verdict.is_clean, verdict
    assert verdict.lags == [0.25] * 3


def test_an_instant_without_its_tick_is_lost(app):
    tick(app, 0, 1, 3)
    app.drain()

    verdict = judge(app, until=NOON + timedelta(minutes=4, seconds=10))

    assert verdict.lost == [
        f"no tick: chaos.minute@2030-01-01T12:0{minute}" for minute in (2, 4)
    ]


def test_a_tick_without_its_job_or_its_effect_is_lost(app):
    tick(app, 0, 1)
    app.drain()
    with damage(app) as connection:
        connection.execute(delete(jobs).where(jobs.c.tick_at == NOON))
        gone = Effect.record == "chaos.minute@2030-01-01T12:01"
        connection.execute(delete(Effect).where(gone))

    assert judge(app).lost == [
        "jobs of chaos.minute@2030-01-01T12:00: 0, not 1",
        "effects of chaos.minute@2030-01-01T12:01: 0, not 1",
    ]


def test_a_second_job_of_a_tick_is_doubled(app):
    tick(app, 0, 1)
    app.drain()
    with damage(app) as connection:
        connection.execute(
            update(jobs).where(jobs.c.tick_at.is_not(None)).values(tick_at=NOON)
        )

    assert "jobs of chaos.minute@2030-01-01T12:00: 2, not 1" in judge(app).doubled


def test_a_tick_that_skipped_or_is_of_no_instant_is_illegal(app):
    tick(app, 0, 0.5)
    app.drain()
    with damage(app) as connection:
        connection.execute(update(ticks).values(skipped=1, why="missed"))

    found = judge(app).illegal
    assert any("a tick of no instant" in one for one in found)
    assert "skipped 1: chaos.minute@2030-01-01T12:00 (missed)" in found


def test_what_the_clock_makes_after_the_end_may_wait(app):
    tick(app, 0, 1)

    assert len(judge(app).unfinished) == 2
    assert len(judge(app, until=NOON + timedelta(seconds=15)).unfinished) == 1


def test_ticks_of_which_half_are_late_are_told():
    assert find_late([0.1, 0.5, 40.0]) == []
    assert find_late([0.1, 1.5, 40.0]) == ["half of the ticks began 1.5 s late"]
    assert find_late([]) == ["there was no tick"]
