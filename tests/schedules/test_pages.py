"""The records that a tick picks, page by page, and the jobs that it makes of them."""

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, object_session

from statejobs import (
    DefinitionError,
    Domain,
    JobContext,
    JobState,
    StatefulResource,
    StateJobs,
    Trigger,
    UtcDateTime,
    everything,
    state_column,
)
from statejobs.events import ScheduleTicked
from tests.support.clock import NOON
from tests.support.shelves import (
    Box,
    Cup,
    Jar,
    Jug,
    Pot,
    S,
    Tin,
    begin,
    jobs_of,
    last_tick,
    pager_of,
    picked,
    put,
    script,
    set_jobs,
    shelf,
    tick,
)


@pytest.fixture
def app(database_url):
    with shelf(database_url) as opened:
        yield opened


def test_a_tick_makes_a_job_of_each_record_that_matches(app):
    put(app, Jar, {"n": 1}, {"n": 6}, {"n": 2}, {"n": 3, "put_at": NOON})

    done = tick(app, "jar.clear")

    made = jobs_of(app, "jar.clear")
    assert [job.record_id for job in made] == ["1", "3"]
    assert {job.state for job in made} == {JobState.QUEUED}
    assert {job.tick_at for job in made} == {NOON}
    assert {job.actor for job in made} == {"system:shelf"}
    assert {(job.tags, job.meta) for job in made} == {('["tidy"]', '{"by":"clock"}')}
    assert len({job.idempotency_key for job in made}) == 2
    assert (done.enqueued, done.skipped, done.done_at) == (2, 0, NOON)


def test_a_record_that_is_in_no_source_is_not_picked(app):
    put(app, Jar, {}, {})
    with app.session() as session:
        session.get_one(Jar, 1).put_aside()
        session.commit()

    tick(app, "jar.clear")

    assert picked(app, "jar.clear") == ["2"]


def test_the_next_tick_leaves_those_alone_that_have_a_job(app):
    put(app, Jar, {}, {})
    tick(app, "jar.clear")
    app.sources.clock.advance(hours=1)

    again = tick(app, "jar.clear")

    made = jobs_of(app, "jar.clear")
    assert (again.enqueued, len(made)) == (0, 2)
    assert {(job.coalesced, job.tick_at) for job in made} == {(0, NOON)}


def test_pages_follow_each_other_until_the_limit(app):
    put(app, Box, *({} for _ in range(9)))
    pager = pager_of(app)
    begin(app, "box.clear")

    pages = [pager.run_once() and last_tick(app, "box.clear") for _ in range(5)]

    assert [(page.cursor, page.enqueued) for page in pages[:4]] == [
        ("2", 2),
        ("4", 4),
        ("6", 6),
        ("7", 7),
    ]
    assert [bool(page and page.done_at) for page in pages] == [0, 0, 0, 1, 0]
    assert picked(app, "box.clear") == [str(n) for n in range(1, 8)]


def test_the_limit_counts_what_gets_a_job(app):
    put(app, Box, *({} for _ in range(9)))
    tick(app, "box.clear")
    app.sources.clock.advance(hours=1)

    again = tick(app, "box.clear")

    assert again.enqueued == 2
    assert len(picked(app, "box.clear")) == 9


def test_jobs_are_spread_in_twenty_steps(app):
    put(app, Box, *({} for _ in range(7)))

    tick(app, "box.clear")

    made = jobs_of(app, "box.clear")
    step = timedelta(hours=1) / 20
    assert [job.run_at for job in made] == [NOON + n % 2 * step for n in range(7)]
    assert [job.state for job in made] == ["queued", "scheduled"] * 3 + ["queued"]


def test_those_come_first_that_are_first_in_its_order(app):
    put(app, Tin, *({"n": n} for n in (1, 5, 3, 4, 2)))

    done = tick(app, "tin.clear")

    assert picked(app, "tin.clear") == ["2", "3", "4"]
    assert (done.enqueued, done.done_at) == (3, NOON)


def test_arguments_and_tenant_are_made_of_the_record(app):
    first, second = put(app, Cup, {"n": 1}, {"n": 2, "owner": 8})
    script.args = lambda cup: {"size": cup.n * 10}

    done = tick(app, "cup.clear")

    found = {job.record_id: (job.args, job.tenant) for job in jobs_of(app, "cup.clear")}
    assert found == {first: ('{"size":10}', "7"), second: ('{"size":20}', "8")}
    assert done.enqueued == 2


def divides_by_zero(cup):
    return {"size": 10 // cup.n}


def finds_no_row(cup):
    found = object_session(cup).scalars(select(Jar.id).where(Jar.id == cup.n))
    return {"size": found.one()}


@pytest.mark.parametrize(
    ("wrong", "error"),
    [(divides_by_zero, "ZeroDivisionError"), (finds_no_row, "NoResultFound")],
)
def test_a_record_of_which_no_job_can_be_made_is_passed_over(app, wrong, error):
    put(app, Jar, {}, {})
    put(app, Cup, {"n": 0}, {"n": 2})
    script.args = wrong

    done = tick(app, "cup.clear")

    assert (done.enqueued, done.skipped) == (1, 1)
    assert error in done.why
    assert done.done_at == NOON


def test_a_key_of_several_columns(app):
    owner = "6c84fb90-12c4-11e1-840d-7b25c5ee775a"
    rows = [
        {"shelf": shelf, "place": place, "owner": UUID(owner)}
        for shelf in ("b", 'a"', "ä")
        for place in (2, 10)
    ]
    keys = put(app, Jug, *rows, {"shelf": "z", "place": 1})

    done = tick(app, "jug.clear")

    made = jobs_of(app, "jug.clear")
    assert {job.record_id for job in made} == {*keys}
    assert {job.args for job in made} == {'{"size":3}'}
    assert [job.tenant for job in made].count(owner) == 6
    assert (done.enqueued, len(made)) == (7, 7)


def test_a_job_that_completed_holds_its_key_for_its_period(app):
    put(app, Pot, {"id": "a"})
    tick(app, "pot.clear")
    app.drain()
    app.sources.clock.advance(hours=23)

    early = tick(app, "pot.clear")
    app.sources.clock.advance(hours=1)
    late = tick(app, "pot.clear")

    assert (early.enqueued, late.enqueued) == (0, 1)
    assert [job.state for job in jobs_of(app, "pot.clear")] == ["completed", "queued"]


def test_a_job_under_a_former_key_is_one_of_the_trigger(app):
    put(app, Pot, {"id": "a"}, {"id": "b"})
    tick(app, "pot.clear")
    for name in ("a", "b"):
        set_jobs(
            app,
            "pot.clear",
            f'"{name}"',
            key="pot.empty",
            dedupe_key=f'pot.empty:"{name}"',
        )
    set_jobs(
        app,
        "pot.empty",
        '"b"',
        state="cancelled",
        outcome="stale",
        finished_at=NOON,
    )
    app.sources.clock.advance(hours=1)

    again = tick(app, "pot.clear")

    assert again.enqueued == 1
    assert picked(app, "pot.clear") == []
    assert [
        (job.record_id, job.state, job.dedupe_key) for job in jobs_of(app, "pot.empty")
    ] == [
        ('"a"', "queued", 'pot.empty:"a"'),
        ('"b"', "queued", 'pot.clear:"b"'),
    ]


def test_the_end_of_a_tick_is_told(app):
    put(app, Box, *({} for _ in range(3)))
    told = []
    app.telemetry.subscribe(told.append, ScheduleTicked)
    app.sources.clock.advance(seconds=2)
    begin(app, "box.clear", at=NOON)
    pager = pager_of(app)

    while pager.run_once():
        pass

    (event,) = told
    assert (event.key, event.at, event.enqueued, event.lag) == ("box.clear", NOON, 3, 2)


def test_a_key_that_no_sql_can_write_is_refused_when_the_app_is_made(sqlite_url):
    class Base(DeclarativeBase):
        pass

    class Vase(StatefulResource, Base):
        __tablename__ = "vases"
        at: Mapped[datetime] = mapped_column(UtcDateTime, primary_key=True)
        state: Mapped[S] = state_column(S, initial=S.ON)
        clear = Trigger.scheduled("vase.clear", cron="@hourly", where=everything)

        @clear.action(S.ON, S.OFF)
        def do_clear(self, ctx: JobContext) -> None: ...

    with pytest.raises(DefinitionError) as raised:
        StateJobs(sqlite_url, domains=[Domain("d", resources=[Vase])])

    assert str(raised.value) == (
        "Vase.clear: its key column 'at' is UtcDateTime(timezone=True), "
        "whose text in jobs SQL cannot make\n"
        "  why: a tick names the records of its jobs in SQL, for integers, text and UUIDs\n"
        "  fix: give it a key of such columns; or enqueue its jobs one by one, in a "
        "@scheduled_action"
    )


def test_a_page_is_a_handful_of_statements(app):
    put(app, Jar, *({"n": n % 6} for n in range(50)))
    begin(app, "jar.clear")
    pager = pager_of(app)
    sent = []
    event.listen(app.engine, "before_cursor_execute", lambda *a: sent.append(a[2]))

    assert pager.run_once()

    assert last_tick(app, "jar.clear").enqueued == 50
    assert 3 < len(sent) <= 8  # two of them ask for the tick
