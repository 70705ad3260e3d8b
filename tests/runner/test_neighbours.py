"""Two triggers on one resting state, one of which moves the record: one runs after the other."""

import threading

import pytest
from sqlalchemy import event, update

from statejobs import JobState
from statejobs.record.neighbours import neighbours_of
from statejobs.store.tables import jobs
from statejobs.values.clock import Sources
from tests.support.clock import ManualClock
from tests.support.leaflets import (
    Leaflet,
    Poster,
    approved,
    print_shop,
    reset_script,
    script,
)
from tests.support.parcels import Parcel, fire, load, state_of
from tests.support.processes import eventually

PRESS, NOTIFY, FOLD = "do_press", "do_notify", "do_fold"


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def app(database_url, clock):
    with print_shop(database_url, clock=clock) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _forget_script():
    reset_script()
    yield
    reset_script()


def jobs_of(app, key):
    """The job of each trigger, by the last word of its key."""
    found = app.queries.jobs(resource="Poster", record_id=str(key))
    return {job.key.partition(".")[2]: job for job in found}


def claim(app, number=10):
    return app.runner().claim("default", limit=number)


def keys_of(claims):
    return [one.job.key for one in claims]


def run_all(app, clock):
    """Run what waits, and what was put back, until nothing is left."""
    counts = {}
    for _ in range(10):
        for outcome, count in app.drain().counts.items():
            counts[outcome] = counts.get(outcome, 0) + count
        clock.advance(seconds=2)
    return counts


def test_two_jobs_of_one_claim_run_one_after_the_other(app, clock):
    keys = approved(app, Poster, NOTIFY, PRESS, number=4)

    first = claim(app)

    assert keys_of(first) == ["poster.notify"] * 4
    assert {job.state for key in keys for job in jobs_of(app, key).values()} == {
        JobState.PROCESSING,
        JobState.SCHEDULED,
    }
    for one in first:
        assert app.runner().run(one).outcome == "complete"
    assert run_all(app, clock) == {"complete": 4}


def test_the_one_that_moves_the_record_may_be_the_first(app, clock):
    (key,) = approved(app, Poster, PRESS, NOTIFY)

    (first,) = claim(app)

    assert first.job.key == "poster.press"
    assert jobs_of(app, key)["notify"].state is JobState.SCHEDULED
    assert jobs_of(app, key)["notify"].attempt == 0
    assert app.runner().run(first).outcome == "complete"
    assert run_all(app, clock) == {"complete": 1}


def test_a_job_waits_while_another_action_works_on_its_record(app, clock):
    (key,) = approved(app, Poster, PRESS)
    (pressing,) = claim(app)
    enqueue_past_the_state(app, key, "poster.notify")

    assert claim(app) == []

    assert jobs_of(app, key)["notify"].state is JobState.SCHEDULED
    script.press = fail
    assert app.runner().run(pressing).outcome == "fail"
    clock.advance(seconds=2)
    assert app.drain().counts == {"complete": 1}


def enqueue_past_the_state(app, key, job_key):
    """Give a record a job as it would have had, had it been enqueued a moment before the claim."""
    (other,) = approved(app, Poster, NOTIFY)
    with app.engine.begin() as connection:
        connection.execute(
            update(jobs)
            .where(jobs.c.record_id == str(other))
            .values(record_id=str(key), dedupe_key=f"{job_key}:{key}", key=job_key)
        )


def fail(*_args):
    raise ValueError("no paper")


def test_a_record_on_which_another_job_runs_is_not_moved_away_from_it(app, clock):
    (key,) = approved(app, Poster, NOTIFY)
    (telling,) = claim(app)
    with app.session() as session:
        Poster.do_press.enqueue(session, session.get_one(Poster, key))
        session.commit()

    assert claim(app) == []

    assert state_of(app, Poster, key) == "approved"
    script.notify = lambda poster, _ctx: setattr(poster, "told", "all")
    assert app.runner().run(telling).outcome == "complete"
    assert run_all(app, clock) == {"complete": 1}
    assert load(app, Poster, key).told == "all"


def test_three_triggers_all_keep_what_they_wrote(app, clock):
    script.press = lambda poster, _ctx: setattr(poster, "pdf", "p")
    script.notify = lambda poster, _ctx: setattr(poster, "told", "n")
    script.render = lambda poster, _ctx: setattr(poster, "tags", "f")
    keys = approved(app, Poster, PRESS, NOTIFY, FOLD, number=3)

    assert run_all(app, clock) == {"complete": 9}

    for key in keys:
        poster = load(app, Poster, key)
        assert (poster.pdf, poster.told, poster.tags) == ("p", "n", "f")


def test_one_enqueued_under_a_former_key_counts_as_well(app):
    (key,) = approved(app, Poster, FOLD)
    (_folding,) = claim(app)
    with app.engine.begin() as connection:
        connection.execute(
            update(jobs).values(key="poster.bend", dedupe_key=f"poster.bend:{key}")
        )
    with app.session() as session:
        Poster.do_press.enqueue(session, session.get_one(Poster, key))
        session.commit()

    assert claim(app) == []
    assert state_of(app, Poster, key) == "approved"


def test_two_that_do_not_move_the_record_run_beside_each_other(app):
    approved(app, Poster, NOTIFY, FOLD)

    assert keys_of(claim(app)) == ["poster.notify", "poster.fold"]


def test_a_job_is_stale_when_the_record_cannot_come_back(app, mending):
    (key,) = approved(app, Poster, NOTIFY)
    mend = mending("UPDATE posters SET state = 'approved' WHERE state = 'archived'")
    with app.engine.begin() as connection:
        # past the machine: a transition would have cancelled
        connection.execute(update(Poster.__table__).values(state="archived"))

    assert claim(app) == []
    assert jobs_of(app, key)["notify"].state is JobState.CANCELLED
    mend()


def test_a_job_that_waited_is_stale_once_the_action_took_the_record_elsewhere(
    app, clock
):
    (key,) = approved(app, Poster, PRESS, NOTIFY)
    (pressing,) = claim(app)
    fire(app, Poster, key, "archive")
    assert app.runner().run(pressing).outcome == "cancel"
    clock.advance(seconds=2)

    assert app.drain().counts == {}
    assert jobs_of(app, key)["notify"].state is JobState.CANCELLED


@pytest.mark.parametrize("first", [PRESS, NOTIFY])
def test_with_a_real_worker_nothing_is_lost(database_url, first):
    """Beside each other, one would supersede the other: eight of eight did."""
    second = NOTIFY if first == PRESS else PRESS
    at_work = threading.Event()

    def body(name):
        def write(poster, _ctx):
            at_work.wait(0.2)  # a moment in which the other could be claimed
            setattr(poster, name, "x")

        return write

    script.press, script.notify = body("pdf"), body("told")
    with print_shop(database_url, sources=Sources()) as app:
        keys = approved(app, Poster, first, second, number=8)

        with app.running():
            eventually(
                lambda: all(
                    j.finished_at for key in keys for j in jobs_of(app, key).values()
                )
            )

        found = [load(app, Poster, key) for key in keys]
        assert [(poster.pdf, poster.told) for poster in found] == [("x", "x")] * 8


def test_a_resource_without_such_neighbours_pays_nothing(app):
    counts = []
    for kind, actions in (
        (Leaflet, ["do_render"]),
        (Leaflet, ["do_render", "do_notify"]),
    ):
        approved(app, kind, *actions)
        sent = []
        event.listen(
            app.engine, "before_cursor_execute", lambda *a, sent=sent: sent.append(a[2])
        )
        for one in claim(app):
            app.runner().run(one)
        counts.append(sum("dedupe_key IN" in text for text in sent))

    assert counts == [0, 0]
    model = Parcel.__statejobs__
    (bound,) = model.triggers.values()
    assert neighbours_of(model, bound).resting == ()
    assert neighbours_of(model, bound).passing == frozenset()


def test_what_neighbours_mean_is_read_off_the_declarations():
    model = Poster.__statejobs__
    press, notify, fold = (
        model.triggers[f"poster.{name}"] for name in ("press", "notify", "fold")
    )

    assert neighbours_of(model, press).resting == (notify, fold)
    assert neighbours_of(model, press).passing == frozenset()
    assert neighbours_of(model, notify).resting == ()
    assert neighbours_of(model, notify).passing == {"printing"}
