"""Old ended jobs are deleted, but for those that a retry would continue."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import delete, func, insert, select, update

from statejobs import (
    ConfigurationError,
    Domain,
    JobState,
    Retention,
    StateJobs,
    WrongValueError,
    task,
)
from statejobs.events import RowsPruned
from statejobs.store.tables import attempts, jobs, transitions
from statejobs.values.job import ENDED, LIVE
from tests.support.bells import schedule_of, ticks_of, tower
from tests.support.clock import NOON, ManualClock, manual_sources
from tests.support.hostile import allow_updates, execute, refuse_deletes
from tests.support.parcels import Letter, Parcel, post_office
from tests.support.plans import recording
from tests.support.processes import DEADLINE
from tests.support.shop import read_jobs

DAY = timedelta(days=1)


@pytest.fixture
def app(database_url):
    kept = Retention(completed=DAY, cancelled=2 * DAY, discarded=3 * DAY, batch=3)
    with post_office(database_url, clock=ManualClock(NOON), retention=kept) as opened:
        yield opened


def add_job(app, number, state, *, days, key="parcel.send", record=None, tries=1):
    """Insert a job that ended that many days ago, with attempts."""
    at = app.sources.clock.now() - days * DAY
    row = {
        "id": number,
        "key": key,
        "queue": "default",
        "priority": 0,
        "state": state,
        "run_at": at,
        "args": "{}",
        "resource": "Parcel",
        "record_id": str(record or number),
        "dedupe_key": f"{key}:{record or number}",
        "idempotency_key": f"k{number}",
        "tags": "[]",
        "enqueued_at": at,
        "max_attempts": 3,
        "finished_at": at if state in ENDED else None,
    }
    tried = [
        {"job_id": number, "attempt": n, "outcome": "failed", "finished_at": at}
        for n in range(tries)
    ]
    with app.engine.begin() as connection:
        connection.execute(insert(jobs).values(row))
        if tried:
            connection.execute(insert(attempts), tried)


def hold_key(app, number, until):
    """Let a job hold its key until then."""
    with app.engine.begin() as connection:
        connection.execute(
            update(jobs).where(jobs.c.id == number).values(unique_until=until)
        )


def left(app):
    """Ids of the jobs that are left."""
    return [job.id for job in read_jobs(app.engine)]


def count(app, table):
    with app.engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(table))


def rest(app, number, state, kind=Parcel):
    """Let a record rest in *state*, without the job that its creation promises."""
    with app.engine.begin() as connection:
        connection.execute(insert(kind.__table__).values(id=number, state=state))


def test_each_kind_of_ended_job_is_kept_as_long_as_its_own_setting_says(app):
    for n, state in enumerate(ENDED):
        for days in (1, 2, 3, 4):
            add_job(app, 10 * n + days, state, days=days - 0.5)

    pruned = app.prune()

    assert pruned.jobs == {
        JobState.COMPLETED: 3,
        JobState.CANCELLED: 2,
        JobState.DISCARDED: 1,
    }
    assert left(app) == [1, 11, 12, 21, 22, 23]
    assert pruned.attempts == 6
    assert count(app, attempts) == 6


def test_a_job_that_has_not_ended_stays_however_old_it_is(app):
    for n, state in enumerate(LIVE, start=1):
        add_job(app, n, state, days=90)

    assert app.prune(older_than=timedelta()).is_empty
    assert left(app) == [1, 2, 3, 4]


@pytest.mark.parametrize("state", [JobState.CANCELLED, JobState.DISCARDED])
def test_a_job_whose_record_rests_in_its_failed_state_stays_for_the_retry(app, state):
    for n in range(1, 9):
        add_job(app, n, state, days=50)
    for n in (1, 2, 3, 8):  # a whole batch that stays comes first
        rest(app, n, "lost")
    rest(app, 4, "sent")
    rest(app, 5, "packed")

    app.prune()

    assert left(app) == [1, 2, 3, 8]
    with app.session() as session:
        session.execute(delete(Parcel).where(Parcel.id == 2))
        session.commit()
    app.prune()
    assert left(app) == [1, 3, 8]


def test_a_completed_job_goes_wherever_its_record_is(app):
    add_job(app, 1, JobState.COMPLETED, days=50)
    rest(app, 1, "lost")

    app.prune()

    assert left(app) == []


def test_a_completed_job_stays_as_long_as_it_holds_its_key(app):
    for n in range(1, 6):
        add_job(app, n, JobState.COMPLETED, days=50)
    add_job(app, 6, JobState.DISCARDED, days=50)
    later = NOON + timedelta(microseconds=1)
    for n in (1, 2, 3, 6):  # what gave up holds no key
        hold_key(app, n, later)
    hold_key(app, 4, NOON)

    counted = app.prune(dry_run=True)
    assert app.prune() == counted

    assert left(app) == [1, 2, 3]
    app.sources.clock.advance(microseconds=1)
    app.prune()
    assert left(app) == []


def test_without_a_failed_state_a_job_stays_while_its_record_rests_in_a_source(app):
    key = next(k for k, b in Letter.__statejobs__.triggers.items() if b.failed is None)
    source = Letter.__statejobs__.triggers[key].sources[0]
    for n, state in enumerate([source, None], start=1):
        add_job(app, n, JobState.DISCARDED, days=50, key=key, record=n)
        if state:
            rest(app, n, state, Letter)

    app.prune()

    assert left(app) == [1]


def test_a_discarded_job_of_a_key_that_the_app_does_not_know_stays(app):
    add_job(app, 1, JobState.DISCARDED, days=50, key="other.app")
    add_job(app, 2, JobState.COMPLETED, days=50, key="other.app")

    app.prune()

    assert left(app) == [1]


def test_a_record_id_that_is_no_key_any_more_keeps_nothing(app):
    add_job(app, 1, JobState.DISCARDED, days=50, record='"was-a-word"')

    app.prune()

    assert left(app) == []


def test_a_dry_run_counts_what_the_next_run_deletes(app):
    for n in range(1, 8):
        add_job(app, n, JobState.COMPLETED, days=n, tries=n)

    counted = app.prune(dry_run=True)

    assert len(left(app)) == 7
    assert counted.jobs[JobState.COMPLETED] == 6
    assert app.prune() == counted


def test_older_than_stands_for_every_age(app):
    for n, state in enumerate(ENDED):
        add_job(app, n + 1, state, days=10)
        add_job(app, n + 11, state, days=30)

    app.prune(older_than=20 * DAY)

    assert left(app) == [1, 2, 3]


def add_history(app, days):
    at = app.sources.clock.now()
    rows = [
        {
            "resource": "Parcel",
            "record_id": "1",
            "name": "x",
            "target": "sent",
            "version": n,
            "at": at - day * DAY,
        }
        for n, day in enumerate(days)
    ]
    with app.engine.begin() as connection:
        connection.execute(insert(transitions), rows)


def test_history_stays_unless_it_has_an_age(app):
    add_history(app, range(20, 0, -1))

    app.prune()
    assert count(app, transitions) == 20

    pruned = app._pruner.prune(Retention(history=timedelta(days=5, hours=1), batch=4))
    assert (pruned.history, count(app, transitions)) == (15, 5)


def test_subscribers_are_told_what_was_deleted_and_not_that_nothing_was(app):
    told = []
    app.telemetry.subscribe(told.append)
    add_job(app, 1, JobState.COMPLETED, days=9, tries=2)

    app.prune(dry_run=True)
    app.prune()
    app.prune()

    assert told == [RowsPruned(jobs=1, attempts=2, history=0)]


def test_a_worker_prunes_by_itself(database_url):
    gone = threading.Event()
    often = Retention(every=timedelta(milliseconds=10))
    with post_office(database_url, retention=often) as app:
        app.telemetry.subscribe(lambda _: gone.set(), RowsPruned)
        add_job(app, 1, JobState.COMPLETED, days=9)

        with app.running():
            assert gone.wait(DEADLINE)

        assert left(app) == []


def test_a_worker_leaves_it_when_told_to(database_url):
    with post_office(database_url, retention=Retention(every=None)) as app:
        assert "prune" not in [service.name for service in app.worker().services]


@pytest.mark.postgres
def test_one_job_that_cannot_be_deleted_keeps_no_other(app, caplog):
    for number in range(1, 9):
        add_job(app, number, JobState.COMPLETED, days=5)
    refuse_deletes(app, "statejobs_jobs", "OLD.id = 2")

    pruned = app.prune()

    assert left(app) == [2]
    assert (pruned.jobs[JobState.COMPLETED], pruned.attempts) == (7, 7)
    assert "ids [2]: " in caplog.text
    allow_updates(app, "statejobs_jobs")


def test_the_jobs_of_a_missing_table_keep_no_others(app, mending):
    for number in range(1, 7):
        key = "letter.seal" if number % 2 else "parcel.send"
        add_job(app, number, JobState.DISCARDED, days=5, key=key)
    mend = mending("ALTER TABLE letters_before RENAME TO letters")
    execute(app, "ALTER TABLE letters RENAME TO letters_before")

    app.prune()

    mend()
    assert left(app) == [1, 3, 5]


def test_one_row_of_history_that_cannot_be_deleted_keeps_no_other(database_url):
    kept = Retention(history=DAY, batch=3)
    with post_office(database_url, clock=ManualClock(NOON), retention=kept) as app:
        add_history(app, [5, 5, 5, 5, 5])
        refuse_deletes(app, "statejobs_transitions", "OLD.id = 2")

        pruned = app.prune()

        assert (count(app, transitions), pruned.history) == (1, 4)
        allow_updates(app, "statejobs_transitions")


def test_it_waits_for_no_lock(postgres_url):
    with post_office(postgres_url, clock=ManualClock(NOON)) as app:
        for n in (1, 2, 3):
            add_job(app, n, JobState.COMPLETED, days=9)
        with app.engine.begin() as holder:
            holder.execute(select(jobs).where(jobs.c.id == 2).with_for_update())

            app.prune()

        assert left(app) == [2]


def test_several_that_prune_at_once_delete_each_job_once(app):
    for n in range(1, 41):
        add_job(app, n, JobState.COMPLETED, days=9)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(app.prune())) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)

    assert left(app) == []
    assert sum(pruned.jobs[JobState.COMPLETED] for pruned in found) == 40
    assert sum(pruned.attempts for pruned in found) == 40


@pytest.mark.parametrize(
    "wrong",
    [{"completed": -DAY}, {"every": timedelta()}, {"batch": 0}, {"history": -DAY}],
)
def test_ages_that_mean_nothing_are_refused(wrong):
    with pytest.raises((ConfigurationError, WrongValueError), match=next(iter(wrong))):
        Retention(**wrong)


@task("post.sweep")
def sweep() -> None:
    """Work that belongs to no record."""


def test_old_jobs_of_tasks_go_whatever_they_ended_as(database_url):
    post = Domain("tasks", resources=[Parcel], tasks=[sweep])
    app = StateJobs(
        database_url, domains=[post], sources=manual_sources(ManualClock(NOON))
    )
    app.create_all()
    for number, state in enumerate(ENDED, start=1):
        add_job(app, number, state, days=40, key="post.sweep")

    pruned = app.prune()

    assert pruned.jobs == dict.fromkeys(ENDED, 1)
    assert left(app) == []
    app.engine.dispose()


def test_jobs_that_ended_at_one_instant_are_read_once_however_many(app):
    """As those of a bulk transition do. Some stay, and are not read again for each batch."""
    for n in range(1, 8):
        add_job(app, n, JobState.DISCARDED, days=9)
        add_job(app, 100 + n, JobState.CANCELLED, days=9, key="unknown")
    rest(app, 5, "lost")
    add_job(app, 20, JobState.DISCARDED, days=8)
    add_job(app, 21, JobState.DISCARDED, days=1)
    with recording("statejobs_jobs") as seen:
        pruned = app.prune()

    assert pruned.jobs[JobState.DISCARDED] == 7
    assert left(app) == [5, 21, *range(101, 108)]
    # one for each state
    assert sum("finished_at = " in statement for statement in seen) == 2


def test_a_dry_run_counts_what_ended_at_one_instant(app):
    for n in range(1, 8):
        add_job(app, n, JobState.COMPLETED, days=9)

    assert app.prune(dry_run=True).jobs[JobState.COMPLETED] == 7
    assert app.prune().jobs[JobState.COMPLETED] == 7


def test_old_ticks_are_deleted_but_for_the_last_two_of_each_schedule(
    database_url, clock
):
    kept = Retention(batch=2)
    with tower(database_url, clock=clock, retention=kept) as app:
        app.drain()
        for _ in range(3):
            clock.advance(hours=1)
            app.drain()
        clock.advance(days=31)

        counted = app.prune(dry_run=True)
        pruned = app.prune()

        # of either bell one that rang, and the three that note what was missed
        assert (counted.ticks, pruned.ticks) == (5, 5)
        assert [at for at, *_ in ticks_of(app, "bell.strike")] == [
            NOON + timedelta(hours=2),
            NOON + timedelta(hours=3),
        ]
        app.drain()
        assert schedule_of(app, "bell.strike").next_at > clock.now()
