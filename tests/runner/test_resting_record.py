"""Several jobs, and people, work on a record that rests in one state: nobody's work is lost."""

import asyncio
import logging
import threading
from datetime import timedelta

import pytest
from sqlalchemy import update

from statejobs import JobState, WorkerSettings, override_state
from statejobs.events import JobEnded
from statejobs.runner.joblog import log_event
from statejobs.values.clock import Sources
from statejobs.values.outcome import Snooze
from tests.support.clock import ManualClock
from tests.support.leaflets import (
    Leaflet,
    Poster,
    S,
    approved,
    print_shop,
    reset_script,
    script,
)
from tests.support.parcels import attempts_of, fire, load, run_async, state_of
from tests.support.processes import DEADLINE, eventually

FORMS = ("do_render", "do_notify", "do_fetch", "do_sign", "do_index")
"""A `def`, another, an `async def`, an atomic one, a chunk."""


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


@pytest.fixture
def endings(app):
    """What subscribers are told of each end."""
    told = []
    app.telemetry.subscribe(told.append, JobEnded)
    return told


def jobs_of(app, kind, key):
    """The newest job of each trigger, by the last word of its key."""
    found = app.queries.jobs(resource=kind.__name__, record_id=str(key))
    return {job.key.partition(".")[2]: job for job in reversed(found)}


def move(app, key, *names):
    """Let a person fire transitions, each in a transaction of its own."""
    for name in names:
        fire(app, Leaflet, key, name)


def written(app, key):
    leaflet = load(app, Leaflet, key)
    return leaflet.pdf, leaflet.told, leaflet.tags, leaflet.count


# Jobs beside each other --------------------------------------------------------------------------


def write_each_to_a_column(ready, *, flushes):
    """Let every form wait until all have begun, then write a column of its own."""

    def on_thread(name, value):
        def body(leaflet, ctx):
            (leaflet,) = leaflet if isinstance(leaflet, (list, tuple)) else (leaflet,)
            ready.wait(DEADLINE)
            setattr(leaflet, name, value)
            if flushes:
                ctx.session.flush()

        return body

    async def on_loop(leaflet, ctx):
        await asyncio.to_thread(ready.wait, 20)
        leaflet.tags = "b"
        if flushes:
            await ctx.session.flush()

    script.render, script.notify = on_thread("pdf", "r"), on_thread("told", "n")
    script.sign, script.index = on_thread("count", 7), on_thread("seen", "i")
    script.fetch = on_loop


@pytest.mark.parametrize("flushes", [False, True], ids=["changed", "flushed"])
def test_jobs_of_every_form_on_one_resting_record_all_keep_what_they_wrote(
    database_url, flushes
):
    write_each_to_a_column(threading.Barrier(len(FORMS)), flushes=flushes)
    with print_shop(database_url, sources=Sources()) as app:
        (key,) = approved(app, Leaflet, *FORMS)

        with app.running():
            eventually(lambda: all_have_ended(app, key))

        assert {job.state for job in jobs_of(app, Leaflet, key).values()} == {
            JobState.COMPLETED
        }
        assert written(app, key) == ("r", "n", "b", 7)
        assert load(app, Leaflet, key).seen == "i"
        assert load(app, Leaflet, key).state_version == 1


def all_have_ended(app, key):
    found = jobs_of(app, Leaflet, key).values()
    return all(job.finished_at for job in found)


@pytest.mark.parametrize("together", [True, False], ids=["together", "singly"])
def test_two_jobs_that_finish_at_once_both_keep_what_they_wrote(database_url, together):
    settings = WorkerSettings(finish_batch=100 if together else 1)
    script.render = lambda leaflet, _ctx: setattr(leaflet, "pdf", f"{leaflet.id}")
    script.notify = lambda leaflet, _ctx: setattr(leaflet, "told", f"{leaflet.id}")
    with print_shop(database_url, settings=settings) as app:
        keys = approved(app, Leaflet, "do_render", "do_notify", number=5)

        ended = app.step(10)

        assert [one.outcome for one in ended] == ["complete"] * 10
        assert [written(app, key)[:2] for key in keys] == [
            (f"{key}", f"{key}") for key in keys
        ]
        assert {load(app, Leaflet, key).state_version for key in keys} == {1}


def test_each_writes_only_the_columns_that_it_changed(app):
    def renders(leaflet, _ctx):
        with app.session() as session:  # another, meanwhile
            session.get_one(Leaflet, leaflet.id).told = "by another"
            session.commit()
        leaflet.told = leaflet.told  # as code that copies everything does
        leaflet.pdf = "r"

    script.render = renders
    (key,) = approved(app, Leaflet, "do_render")

    app.drain()

    assert written(app, key)[:2] == ("r", "by another")


# People beside jobs ------------------------------------------------------------------------------


@pytest.mark.parametrize("flushes", [False, True], ids=["changed", "flushed"])
@pytest.mark.parametrize("form", ["render", "index"], ids=["def", "chunk"])
def test_a_self_transition_of_a_person_meanwhile_takes_nothing_from_a_job(
    app, form, flushes
):
    def body(leaflet, ctx):
        (leaflet,) = leaflet if isinstance(leaflet, (list, tuple)) else (leaflet,)
        move(app, key, "touch", "touch")
        leaflet.pdf = "r"
        if flushes:
            ctx.session.flush()

    setattr(script, form, body)
    (key,) = approved(app, Leaflet, f"do_{form}")

    assert app.drain().counts == {"complete": 1}
    assert written(app, key)[0] == "r"
    names = [row["name"] for row in app.queries.transitions("Leaflet", str(key))]
    assert names == ["create", "approve", "touch", "touch", f"do_{form}.complete"]


def test_a_self_transition_in_the_state_of_the_job_stops_nobody(app):
    seen = []

    def prints(poster, ctx):
        fire(app, Poster, poster.id, "watch")
        with app.session() as session:
            Poster.watch.bulk(session, where=Poster.id == poster.id)
            session.commit()
        seen.append(app.queries.job(ctx.job.id).cancel_requested)
        poster.pdf = "p"

    script.press = prints
    (key,) = approved(app, Poster, "do_press")

    assert app.drain().counts == {"complete": 1}
    assert (seen, load(app, Poster, key).pdf) == ([False], "p")


@pytest.mark.parametrize("form", FORMS)
def test_a_record_that_left_and_came_back_has_left(app, form):
    (key,) = approved(app, Leaflet, form)
    (claim,) = app.runner().claim("default", limit=1)
    move(app, key, "archive", "approve")

    ended = run(app, claim)

    job = jobs_of(app, Leaflet, key)[form.removeprefix("do_")]
    assert (ended.outcome, job.state) == ("cancel", JobState.CANCELLED)
    assert job.reason == "superseded: the record left 'approved' and came back"
    assert state_of(app, Leaflet, key) == "approved"


def run(app, claim):
    """Run a claim alone, as it stands."""
    if claim.policy.is_async:
        return run_async(app, claim)
    return app.runner().run(claim)


def test_asking_again_on_the_way_back_runs_the_job_again(app):
    runs = []

    def renders(leaflet, _ctx):
        runs.append(leaflet.told)
        leaflet.pdf = f"run {len(runs)}"
        if len(runs) == 1:
            move(app, key, "archive", "restore")

    script.render = renders
    (key,) = approved(app, Leaflet, "do_render")

    assert app.drain().counts == {"cancel": 1, "complete": 1}
    assert written(app, key)[0] == "run 2"
    assert jobs_of(app, Leaflet, key)["render"].state is JobState.COMPLETED


def test_a_self_transition_that_asks_again_runs_the_job_again(app):
    runs = []

    def renders(_leaflet, _ctx):
        runs.append(1)
        if len(runs) == 1:
            with app.session() as session:
                Leaflet.do_render.enqueue(session, session.get_one(Leaflet, key))
                session.commit()

    script.render = renders
    (key,) = approved(app, Leaflet, "do_render")

    assert app.drain().counts == {"complete": 2}


# Moved away --------------------------------------------------------------------------------------


@pytest.mark.parametrize("flushes", [False, True], ids=["changed", "flushed"])
@pytest.mark.parametrize("form", ["render", "index"], ids=["def", "chunk"])
def test_being_superseded_by_a_declared_transition_is_a_normal_end(
    app, endings, caplog, form, flushes
):
    caplog.set_level(logging.INFO)
    app.telemetry.subscribe(log_event)

    def body(leaflets, ctx):
        leaflets = leaflets if isinstance(leaflets, (list, tuple)) else [leaflets]
        if load(app, Leaflet, keys[0]).state == "approved":
            move(app, keys[0], "archive")
        for leaflet in leaflets:
            leaflet.pdf = "r"
        if flushes:
            ctx.session.flush()

    setattr(script, form, body)
    keys = approved(app, Leaflet, f"do_{form}", number=2)

    app.step(2)

    job = jobs_of(app, Leaflet, keys[0])[form]
    assert job.reason == "superseded: the record was moved to 'archived'"
    assert attempts_of(app, Leaflet, keys[0]) == []
    assert sorted(one.is_overtaken for one in endings) == [False, True]
    assert {record.levelno for record in caplog.records} == {logging.INFO}
    assert [written(app, key)[0] for key in keys] == [None, "r"]


def test_being_superseded_past_the_machine_is_told(app, endings, mending):
    (key,) = approved(app, Leaflet, "do_render")
    mend = mending("UPDATE leaflets SET state = 'approved' WHERE state = 'archived'")

    def renders(_leaflet, _ctx):
        with app.engine.begin() as connection:
            connection.execute(update(Leaflet.__table__).values(state="archived"))

    script.render = renders
    app.drain()

    assert [one.is_overtaken for one in endings] == [False]
    assert attempts_of(app, Leaflet, key) == [(1, "superseded", None)]
    mend()


def test_being_superseded_by_an_override_is_told(app, endings):
    (key,) = approved(app, Leaflet, "do_render")

    def renders(_leaflet, _ctx):
        with app.session() as session:
            leaflet = session.get_one(Leaflet, key)
            with override_state(leaflet, reason="repair"):
                leaflet.state = S.ARCHIVED
            session.commit()

    script.render = renders
    app.drain()

    assert [one.is_overtaken for one in endings] == [False]
    assert attempts_of(app, Leaflet, key) == [(1, "superseded", None)]


@pytest.mark.parametrize(
    "error", [ValueError("no"), Snooze(seconds=5)], ids=["fails", "snoozes"]
)
def test_a_job_whose_record_left_does_not_wait_to_run_once_more(app, clock, error):
    def renders(_leaflet, _ctx):
        move(app, key, "archive")
        raise error

    script.render = renders
    (key,) = approved(app, Leaflet, "do_render")

    assert app.drain().counts == {"cancel": 1}
    assert jobs_of(app, Leaflet, key)["render"].state is JobState.CANCELLED


def test_a_crashed_job_whose_record_left_ends_with_its_rescue(app, clock, endings):
    (key,) = approved(app, Leaflet, "do_render")
    (_claim,) = app.runner().claim("default", limit=1)
    move(app, key, "archive")
    clock.advance(timedelta(minutes=5))

    assert app.runner().rescue() == 1

    job = jobs_of(app, Leaflet, key)["render"]
    assert (job.state, job.reason) == (
        JobState.CANCELLED,
        "superseded: the record was moved to 'archived'",
    )
    assert attempts_of(app, Leaflet, key) == []


def test_a_crashed_job_whose_record_rests_is_run_again(app, clock):
    (key,) = approved(app, Leaflet, "do_render")
    (_claim,) = app.runner().claim("default", limit=1)
    move(app, key, "touch")
    clock.advance(timedelta(minutes=5))

    assert app.runner().rescue() == 1
    assert app.drain().counts == {"complete": 1}
