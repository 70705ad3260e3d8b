"""Who writes the pages of a tick: any node, each page once, whatever happens to the others."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError

from statejobs.store.records import lock_place
from statejobs.store.tables import ticks
from statejobs.work.schedules import tick_page
from tests.support.clock import NOON
from tests.support.shelves import (
    OLD,
    Box,
    Cup,
    Jar,
    S,
    begin,
    jobs_of,
    last_tick,
    pager_of,
    picked,
    put,
    script,
    shelf,
    tick,
    write_pages,
)

HOUR = timedelta(hours=1)


class DiedError(BaseException):
    """A node is gone."""


@pytest.fixture
def app(database_url):
    with shelf(database_url) as opened:
        yield opened


def test_a_crash_in_a_page_leaves_nothing_of_it_and_repeats_nothing(app, monkeypatch):
    put(app, Box, *({} for _ in range(5)))
    begin(app, "box.clear")
    dies = pager_of(app)
    assert dies.run_once()

    def die(*_args, **_kwargs):
        raise DiedError

    with monkeypatch.context() as patch:
        patch.setattr(tick_page, "note_page", die)
        with pytest.raises(DiedError):
            dies.run_once()
    assert picked(app, "box.clear") == ["1", "2"]

    done = write_pages(app, "box.clear")

    assert picked(app, "box.clear") == ["1", "2", "3", "4", "5"]
    assert {job.coalesced for job in jobs_of(app, "box.clear")} == {0}
    assert (done.enqueued, done.done_at) == (5, NOON)


def test_nodes_share_the_pages_of_a_tick(app):
    put_many(app, Jar, 40)
    begin(app, "jar.clear")
    schedule = Jar.__statejobs__.triggers["jar.clear"].schedule
    object.__setattr__(schedule, "batch", 3)
    written = []

    def work():
        pager = pager_of(app)
        while not last_tick(app, "jar.clear").done_at:
            if pager.run_once():
                written.append(threading.get_ident())

    nodes = [threading.Thread(target=work) for _ in range(4)]
    try:
        for node in nodes:
            node.start()
        for node in nodes:
            node.join()
    finally:
        object.__setattr__(schedule, "batch", 10_000)

    done = last_tick(app, "jar.clear")
    assert done.enqueued == 40
    assert picked(app, "jar.clear") == [str(n) for n in range(1, 41)]
    assert {job.coalesced for job in jobs_of(app, "jar.clear")} == {0}


def put_many(app, cls, count):
    rows = [
        {
            "id": n,
            "n": 0,
            "state": S.ON,
            "put_at": OLD,
            "state_version": 0,
            "state_changed_at": OLD,
        }
        for n in range(1, count + 1)
    ]
    with app.engine.begin() as connection:
        connection.execute(insert(cls.__table__), rows)


def test_schedules_take_turns(app):
    put(app, Box, *({} for _ in range(5)))
    put(app, Jar, {})
    begin(app, "box.clear")
    app.sources.clock.advance(seconds=1)
    begin(app, "jar.clear")
    pager = pager_of(app)

    assert [pager.run_once(), pager.run_once()] == [True, True]

    assert picked(app, "box.clear") == ["1", "2"]
    assert picked(app, "jar.clear") == ["1"]


def test_of_a_schedule_the_oldest_tick_goes_first(app):
    put(app, Box, *({} for _ in range(3)))
    begin(app, "box.clear", at=NOON)
    begin(app, "box.clear", at=NOON - HOUR)

    write_pages(app, "box.clear")

    assert {job.tick_at for job in jobs_of(app, "box.clear")} == {NOON - HOUR}
    with app.engine.connect() as connection:
        found = connection.execute(select(ticks).order_by(ticks.c.at)).all()
    assert [(one.enqueued, one.done_at) for one in found] == [(3, NOON), (0, NOON)]


def test_a_page_that_raises_holds_up_no_other_schedule(app):
    put(app, Cup, {})
    put(app, Jar, {})
    begin(app, "cup.clear")
    app.sources.clock.advance(seconds=1)
    begin(app, "jar.clear")
    with app.engine.begin() as connection:
        connection.execute(text("ALTER TABLE cups RENAME TO mugs"))

    write_pages(app, "jar.clear")

    assert picked(app, "jar.clear") == ["1"]
    rests = last_tick(app, "cup.clear")
    assert rests.done_at is None
    assert "cups" in rests.why
    with app.engine.begin() as connection:
        connection.execute(text("ALTER TABLE mugs RENAME TO cups"))

    done = write_pages(app, "cup.clear")

    assert done.enqueued == 1


def test_a_drain_raises_what_kept_a_tick_from_its_records(app):
    put(app, Cup, {})
    begin(app, "cup.clear")
    with app.engine.begin() as connection:
        connection.execute(text("ALTER TABLE cups RENAME TO mugs"))

    with pytest.raises(DBAPIError, match="cups"):
        app.drain(raise_errors=True)

    assert "cups" in last_tick(app, "cup.clear").why


def test_what_raised_rests_for_a_while(app):
    put(app, Cup, {})
    begin(app, "cup.clear")
    with app.engine.begin() as connection:
        connection.execute(text("ALTER TABLE cups RENAME TO mugs"))
    pager = pager_of(app)

    runs = [pager.run_once(), pager.run_once()]
    with app.engine.begin() as connection:
        connection.execute(text("ALTER TABLE mugs RENAME TO cups"))
    app.sources.clock.advance(seconds=1)
    runs.append(pager.run_once())

    assert runs == [True, False, True]
    assert last_tick(app, "cup.clear").enqueued == 1


def test_nothing_is_asked_of_ticks_that_are_done(app):
    put(app, Jar, {})
    tick(app, "jar.clear")

    assert pager_of(app).run_once() is False


def test_a_page_waits_for_nobody_who_holds_a_record(postgres_url):
    with shelf(postgres_url) as app:
        put(app, Box, {}, {}, {})
        with app.engine.begin() as connection:
            lock_place(connection, Box.__statejobs__.records, (2,))

            tick(app, "box.clear")

        assert picked(app, "box.clear") == ["1", "2", "3"]


def test_a_page_passes_over_a_record_whose_job_somebody_is_enqueuing(postgres_url):
    with shelf(postgres_url) as app:
        put_many(app, Jar, 12)
        with app.session() as session:
            Jar.do_clear.enqueue(session, session.get_one(Jar, 5))
            session.flush()

            done = tick(app, "jar.clear")
            session.commit()

        assert done.done_at == NOON
        assert (done.enqueued, done.skipped) == (11, 1)
        assert "Jar 5" in done.why
        asked = {job.record_id for job in jobs_of(app, "jar.clear") if not job.tick_at}
        assert asked == {"5"}
        assert len(jobs_of(app, "jar.clear")) == 12


def test_a_record_that_is_left_while_its_page_is_written_ends_its_job_at_the_claim(app):
    put(app, Box, {})
    tick(app, "box.clear")
    with app.engine.begin() as connection:
        connection.execute(Box.__table__.update().values(state=S.ASIDE))

    app.drain()

    (job,) = jobs_of(app, "box.clear")
    assert (job.state, job.outcome) == ("cancelled", "stale")


def test_a_worker_ticks_and_writes_the_pages(app):
    put(app, Cup, {"n": 1}, {"n": 2})
    script.args = lambda cup: {"size": cup.n}
    app.drain()
    app.sources.clock.advance(hours=1)

    app.drain()

    made = jobs_of(app, "cup.clear")
    assert [job.state for job in made] == ["completed", "completed"]
    assert {job.tick_at for job in made} == {NOON + HOUR}
    done = last_tick(app, "cup.clear")
    assert (done.at, done.enqueued) == (NOON + HOUR, 2)
