"""Whom a tick picks, against the table of the documentation: of any records, with any jobs."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select

from statejobs import JobOutcome, WrongValueError
from statejobs.store.tables import jobs, schedules, ticks
from statejobs.values.job import LIVE, JobState
from tests.support.clock import NOON
from tests.support.parcels import Parcel
from tests.support.shelves import OLD, Jar, S, Tin, jobs_of, shelf, tick

HOUR = timedelta(hours=1)
FIRST_ID = 1_000_000  # beyond what the database counts


@dataclass(frozen=True)
class Last:
    """The last job of a record."""

    state: JobState
    outcome: JobOutcome | None
    finished_at: datetime | None


@dataclass(frozen=True)
class Thing:
    """A record, and its last job."""

    state: S
    n: int
    age: timedelta
    moved_at: datetime | None
    last: Last | None


ends = st.sampled_from(JobOutcome).map(
    lambda outcome: Last(outcome.state, outcome, NOON - HOUR)
)
lives = st.sampled_from(LIVE).map(lambda state: Last(state, None, None))
things = st.builds(
    Thing,
    state=st.sampled_from([S.ON, S.CALLED, S.ASIDE, S.OFF]) | st.just(S.ON),
    n=st.integers(0, 6),
    age=st.sampled_from([24 * HOUR, 25 * HOUR]) | st.just(30 * HOUR),
    moved_at=st.sampled_from([None, NOON - HOUR, NOON - 2 * HOUR, NOON - HOUR / 2]),
    last=st.none() | ends | lives,
)


def is_picked(thing):
    """The table."""
    if thing.state not in {S.ON, S.CALLED}:
        return False
    if thing.n >= 6 or thing.age <= 24 * HOUR:
        return False
    last = thing.last
    if last is None or last.outcome is JobOutcome.COMPLETED:
        return True
    if last.outcome is None:
        return False
    if last.outcome is JobOutcome.STALE:
        return True
    return thing.moved_at is not None and thing.moved_at > last.finished_at


@pytest.fixture
def app(database_url):
    with shelf(database_url) as opened:
        yield opened


def store(app, found):
    with app.engine.begin() as connection:
        for table in (Jar.__table__, jobs, ticks):
            connection.execute(delete(table))
        for n, thing in enumerate(found, start=1):
            row = {
                "id": n,
                "n": thing.n,
                "state": thing.state,
                "put_at": NOON - thing.age,
                "state_version": 0,
                "state_changed_at": thing.moved_at,
            }
            connection.execute(insert(Jar.__table__), row)
            if thing.last is not None:
                connection.execute(insert(jobs), row_of(n, thing.last))


def row_of(n, last):
    is_held = last.state is JobState.PROCESSING
    return {
        "id": FIRST_ID + n,
        "key": "jar.clear",
        "queue": "default",
        "priority": 0,
        "state": last.state.value,
        "outcome": last.outcome and last.outcome.value,
        "run_at": OLD,
        "args": "{}",
        "resource": "Jar",
        "record_id": str(n),
        "dedupe_key": f"jar.clear:{n}",
        "idempotency_key": f"i{n}",
        "tags": "[]",
        "attempt": 2,
        "max_attempts": 2,
        "enqueued_at": OLD,
        "finished_at": last.finished_at,
        "token": "t" if is_held else None,
        "owner": "o" if is_held else None,
        "lease_until": NOON if is_held else None,
    }


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(found=st.lists(things, min_size=1, max_size=8))
def test_a_tick_picks_whom_the_table_says(app, found):
    store(app, found)
    with app.session() as session:
        records = session.scalars(select(Jar).order_by(Jar.id)).all()
    said = [bool(app.would_schedule(Jar.clear, one)) for one in records]

    done = tick(app, "jar.clear")

    wanted = [is_picked(thing) for thing in found]
    made = {job.id: job for job in jobs_of(app, "jar.clear") if job.tick_at == NOON}
    assert [str(n + 1) for n, one in enumerate(wanted) if one] == sorted(
        (job.record_id for job in made.values()), key=int
    )
    assert (said, done.enqueued) == (wanted, sum(wanted))
    for n, (thing, one) in enumerate(zip(found, wanted, strict=True), start=1):
        has_ended = thing.last is not None and thing.last.outcome not in {
            None,
            JobOutcome.COMPLETED,
        }
        if one and has_ended:
            assert goes_on(made[FIRST_ID + n])


def goes_on(job):
    """Whether a job has been revived as by a retry."""
    return (
        (job.state, job.outcome, job.finished_at) == ("queued", None, None)
        and (job.attempt, job.max_attempts) == (2, 4)
        and job.idempotency_key == f"i{job.record_id}"
    )


def test_the_answer_names_each_reason(app):
    thing = Thing(
        state=S.ASIDE,
        n=6,
        age=30 * HOUR,
        moved_at=OLD,
        last=Last(JobState.DISCARDED, JobOutcome.FAILED, NOON - HOUR),
    )
    store(app, [thing])
    with app.engine.begin() as connection:
        connection.execute(jobs.update().values(reason="failed: ValueError"))
    with app.session() as session:
        answer = app.would_schedule(Jar.clear, session.get_one(Jar, 1))

    assert not answer
    assert answer.reasons == (
        "it is in 'aside', and 'do_clear' starts from 'on' or 'called'",
        "it does not match where=",
        f"job {FIRST_ID + 1} of it is discarded (failed: ValueError), "
        "and nothing has moved it since",
    )


def test_the_answer_says_yes(app):
    store(app, [Thing(S.ON, 0, 30 * HOUR, OLD, None)])
    with app.session() as session:
        answer = app.would_schedule(Jar.clear, session.get_one(Jar, 1))

    assert (bool(answer), answer.reasons, str(answer)) == (True, (), "yes")


def test_a_paused_schedule_picks_nobody(app):
    store(app, [Thing(S.ON, 0, 30 * HOUR, OLD, None)])
    row = {"key": "jar.clear", "spec": "s", "paused_at": NOON, "paused_by": "ada"}
    with app.engine.begin() as connection:
        connection.execute(insert(schedules), row)
    with app.session() as session:
        answer = app.would_schedule(Jar.clear, session.get_one(Jar, 1))

    assert answer.reasons == ("its schedule is paused since 2030-01-01 12:00 UTC",)


def test_what_has_no_schedule_is_refused(app):
    with pytest.raises(WrongValueError, match="no record that has <trigger"):
        app.would_schedule(Jar.clear, Tin(id=1))
    with pytest.raises(WrongValueError, match=r"Jar \(new\) is not stored yet"):
        app.would_schedule(Jar.clear, Jar(id=1))
    with pytest.raises(WrongValueError, match="has no schedule"):
        app.would_schedule(Parcel.send, Parcel(id=1))
