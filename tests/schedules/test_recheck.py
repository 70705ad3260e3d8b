"""Jobs that a tick made are asked about `where` once more when they are claimed."""

from datetime import timedelta

import pytest
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    Domain,
    Enqueued,
    JobContext,
    StatefulResource,
    StateJobs,
    Trigger,
    ago,
    state_column,
)
from statejobs.record.specs import BoundTrigger
from statejobs.store.records import lock_place
from tests.support.clock import NOON, ManualClock, manual_sources
from tests.support.parcels import close_app
from tests.support.shelves import (
    Jar,
    Pot,
    S,
    jobs_of,
    put,
    script,
    shelf,
    tick,
)


class Base(DeclarativeBase): ...


class Urn(StatefulResource, Base):
    """Picked when it has rested for a while; each attempt moves it, and fails."""

    __tablename__ = "urns"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[S] = state_column(S, initial=S.ON)
    empty = Trigger.scheduled(
        "urn.empty",
        cron="*/10 * * * *",
        max_attempts=2,
        backoff=timedelta(minutes=1),
        where=lambda: Urn.state_changed_at < ago(minutes=5),
    )

    @empty.action(S.ON, S.OFF, during=S.CALLED, failed=S.ASIDE)
    def do_empty(self, ctx: JobContext) -> None:
        raise ValueError


NO_LONGER = "its record no longer matches where="


@pytest.fixture
def app(database_url):
    with shelf(database_url) as opened:
        yield opened


def change(app, cls, key, **values):
    with app.session() as session:
        record = session.get_one(cls, key)
        for name, value in values.items():
            setattr(record, name, value)
        session.commit()


def only_job(app, key):
    (job,) = jobs_of(app, key)
    return job


def state_of(app, cls, key):
    with app.session() as session:
        return session.get_one(cls, key).state


def test_a_record_that_matches_no_longer_is_left_alone(app):
    put(app, Jar, {}, {})
    tick(app, "jar.clear")
    change(app, Jar, 1, n=6)

    app.drain()

    first, second = jobs_of(app, "jar.clear")
    assert (first.state, first.outcome, first.reason) == (
        "cancelled",
        "stale",
        NO_LONGER,
    )
    assert (first.attempt, first.finished_at) == (0, NOON)
    assert second.state == "completed"
    assert state_of(app, Jar, 1) is S.ON


def test_ago_is_reckoned_from_the_claim(app):
    put(app, Jar, {})
    tick(app, "jar.clear")
    change(app, Jar, 1, put_at=NOON - timedelta(hours=23))
    app.sources.clock.advance(hours=1, seconds=1)

    app.drain()

    assert only_job(app, "jar.clear").state == "completed"


def test_what_is_stale_is_picked_by_the_next_tick_that_matches(app):
    put(app, Jar, {})
    tick(app, "jar.clear")
    change(app, Jar, 1, n=6)
    app.drain()
    app.sources.clock.advance(hours=1)
    nothing = tick(app, "jar.clear")
    change(app, Jar, 1, n=0)
    app.sources.clock.advance(hours=1)

    again = tick(app, "jar.clear")
    job = only_job(app, "jar.clear")

    assert (nothing.enqueued, again.enqueued) == (0, 1)
    assert (job.state, job.outcome, job.reason) == ("queued", None, None)
    assert job.tick_at == NOON + timedelta(hours=2)


def test_a_record_that_somebody_holds_is_not_mistaken_for_one_that_matches_no_longer(
    postgres_url,
):
    with shelf(postgres_url) as app:
        put(app, Jar, {}, {"n": 1})
        tick(app, "jar.clear")
        change(app, Jar, 2, n=6)
        model = Jar.__statejobs__
        with app.engine.begin() as connection:
            for key in (1, 2):
                lock_place(connection, model.records, (key,))
            app.drain()

        held, stale = jobs_of(app, "jar.clear")
        assert (held.state, held.outcome) == ("scheduled", None)
        assert (stale.state, stale.reason) == ("cancelled", NO_LONGER)


def test_a_record_in_no_source_is_told_as_ever(app):
    put(app, Jar, {})
    tick(app, "jar.clear")
    set_state(app, S.ASIDE)

    app.drain()

    job = only_job(app, "jar.clear")
    assert job.outcome == "stale"
    assert "is in 'aside'" in job.reason


def set_state(app, state):
    """As a flush does that the page has not seen, so that no job was left behind."""
    with app.engine.begin() as connection:
        connection.execute(Jar.__table__.update().values(state=state))


def ask_by_name(session, jar):
    Jar.do_clear.enqueue(session, jar)


def ask_by_transition(session, jar):
    jar.call()


@pytest.mark.parametrize("ask", [ask_by_name, ask_by_transition])
def test_what_somebody_asks_for_is_no_candidate_of_a_filter(app, ask):
    put(app, Jar, {})
    tick(app, "jar.clear")
    with app.session() as session:
        jar = session.get_one(Jar, 1)
        jar.n = 6
        ask(session, jar)
        session.commit()

    assert {job.tick_at for job in jobs_of(app, "jar.clear")} <= {None, NOON}
    app.drain()

    assert state_of(app, Jar, 1) is S.OFF
    assert [j.state for j in jobs_of(app, "jar.clear") if j.tick_at is None] == [
        "completed"
    ]


def test_bulk_takes_jobs_from_ticks(app):
    put(app, Jar, {}, {})
    tick(app, "jar.clear")
    with app.session() as session:
        Jar.call.bulk(session, where=Jar.id == 1)
        session.commit()

    open_jobs = [job for job in jobs_of(app, "jar.clear") if job.state == "queued"]
    assert {job.record_id: job.tick_at for job in open_jobs} == {"1": None, "2": NOON}


@pytest.mark.parametrize("by", ["id", "selection"])
def test_a_retry_by_hand_takes_a_job_from_its_tick(app, by):
    put(app, Jar, {})
    tick(app, "jar.clear")
    change(app, Jar, 1, n=6)
    app.drain()
    job = only_job(app, "jar.clear")
    assert job.outcome == "stale"

    if by == "id":
        app.retry_job(job.id)
    else:
        app.select(key="jar.clear").retry()
    assert only_job(app, "jar.clear").tick_at is None
    app.drain()

    assert state_of(app, Jar, 1) is S.OFF


def fail(_jar, _ctx):
    raise ValueError


def test_a_retry_goes_on_whatever_has_become_of_the_record(app):
    put(app, Jar, {})
    tick(app, "jar.clear")
    script.body = fail
    app.drain()
    change(app, Jar, 1, n=6)
    app.sources.clock.advance(hours=1)
    app.drain()

    job = only_job(app, "jar.clear")
    assert (job.outcome, job.attempt, job.tick_at) == ("failed", 2, NOON)


def test_a_job_that_is_picked_again_is_a_candidate_again(app):
    put(app, Jar, {})
    tick(app, "jar.clear")
    script.body = fail
    for _ in range(2):
        app.drain()
        app.sources.clock.advance(hours=1)
    with app.session() as session:
        jar = session.get_one(Jar, 1)
        jar.put_aside()
        session.flush()
        jar.put_back()
        session.commit()
    assert tick(app, "jar.clear").enqueued == 1
    change(app, Jar, 1, n=6)
    app.drain()

    job = only_job(app, "jar.clear")
    assert (job.outcome, job.reason, job.attempt) == ("stale", NO_LONGER, 2)


def test_attempts_run_out_though_each_moves_its_record(database_url):
    """A move to `during` and back is one that `where` may see; it makes nobody pick it anew."""
    clock = ManualClock()
    app = StateJobs(
        database_url,
        domains=[Domain("urns", resources=[Urn])],
        sources=manual_sources(clock),
    )
    app.create_all()
    put(app, Urn, {})
    for _ in range(60):
        clock.advance(minutes=1)
        app.drain()

    job = only_job(app, "urn.empty")
    assert (job.outcome, job.attempt) == ("failed", 2)
    assert state_of(app, Urn, 1) is S.ASIDE
    close_app(app)


def test_a_duplicate_request_takes_a_job_from_its_tick(app):
    put(app, Pot, {"id": "a"})
    tick(app, "pot.clear")
    with app.session() as session:
        pot = session.get_one(Pot, "a")
        pot.n = 6
        result = Pot.do_clear.enqueue(session, pot)
        session.commit()

    app.drain()

    assert result.outcome is Enqueued.DUPLICATE
    job = only_job(app, "pot.clear")
    assert (job.state, job.tick_at) == ("completed", None)


def test_jobs_of_ticks_and_others_are_claimed_together(app):
    put(app, Jar, {}, {})
    with app.session() as session:
        Jar.do_clear.enqueue(session, session.get_one(Jar, 1))
        session.commit()
    tick(app, "jar.clear")
    for key in (1, 2):
        change(app, Jar, key, n=6)

    app.drain()

    assert [job.state for job in jobs_of(app, "jar.clear")] == [
        "completed",
        "cancelled",
    ]


def test_a_trigger_that_has_lost_its_schedule_runs_what_ticks_made(app, monkeypatch):
    put(app, Jar, {})
    tick(app, "jar.clear")
    change(app, Jar, 1, n=6)
    monkeypatch.setattr(BoundTrigger, "schedule", None)

    app.drain()

    assert only_job(app, "jar.clear").state == "completed"
