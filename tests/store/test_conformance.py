"""What every store must do, on every database."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from statejobs import Enqueued, JobOutcome, JobState
from statejobs.declare.registry import Registry
from statejobs.people.named import Named
from statejobs.store.claim import lock_queued, mark_processing
from statejobs.store.engines.factory import open_engine
from statejobs.store.enqueue import enqueue
from statejobs.store.expired import discard_stuck, find_expired, put_aside
from statejobs.store.finish import finish_job
from statejobs.store.hold import note_on_job, renew_leases
from statejobs.store.queries import JobQueries
from statejobs.store.schema import create_tables
from statejobs.store.staging import stage_due
from statejobs.store.store import Store
from statejobs.store.strangers import peek_queues
from statejobs.values.job import NewJob
from statejobs.values.lifecycle import Landing, Settlement

NOW = datetime(2030, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
LEASE = timedelta(seconds=30)
NEW = NewJob(
    key="a",
    queue="q",
    priority=0,
    max_attempts=3,
    run_at=NOW,
    idempotency_key="i",
    enqueued_at=NOW,
)
DONE = Settlement(
    edge="complete",
    state=JobState.COMPLETED,
    landing=Landing.TARGET,
    attempt=1,
    crashes=0,
    snoozes=0,
    outcome=JobOutcome.COMPLETED,
)


@pytest.fixture
def store(database_url):
    engine = open_engine(database_url)
    create_tables(engine)
    yield Store(engine)
    engine.dispose()


def put(store, *new):
    with store.transaction() as connection:
        return enqueue(connection, new)


def claim(store, *, limit=10, keys=("a",), token="t", until=LATER):
    with store.transaction() as connection:
        found = lock_queued(connection, "q", keys, limit=limit)
        mark_processing(
            connection,
            [job.id for job in found],
            source="s",
            node="n",
            token=token,
            now=NOW,
            until=until,
        )
    return [
        structs.replace(
            job,
            state=JobState.PROCESSING,
            attempt=job.attempt + 1,
            token=token,
            owner="n",
        )
        for job in found
    ]


def finish(store, job, settlement=DONE, *, rests=False):
    with store.transaction() as connection:
        return finish_job(
            connection, job, settlement, now=NOW, rests_in_source=rests, allowance=3
        )


def queries(store):
    return JobQueries(store.engine, Named(Registry([]), {}, store.engine.dialect))


def test_claims_go_by_priority_then_time_then_id(store):
    put(
        store,
        replace(NEW, priority=5),
        replace(NEW, run_at=LATER),
        NEW,
        NEW,
    )

    assert [job.id for job in claim(store)] == [3, 4, 2, 1]


def test_a_claim_takes_no_more_than_its_limit_and_only_known_keys(store):
    put(store, *[NEW] * 5, replace(NEW, key="unknown"))

    assert len(claim(store, limit=3)) == 3
    assert len(claim(store, limit=10)) == 2
    assert claim(store) == []


def test_concurrent_claims_share_no_job(store):
    put(store, *[NEW] * 200)
    taken = []

    def take():
        while found := claim(store, limit=7):
            taken.extend(job.id for job in found)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    rest = claim(store, limit=200)  # skipped while others held them
    assert sorted([*taken, *(job.id for job in rest)]) == list(range(1, 201))


def test_values_survive_to_the_microsecond_and_the_byte(store):
    args = '{"text":"\\u0000 ünï 😀 \\" ' + "x" * 100_000 + '"}'

    put(store, replace(NEW, args=args, record_id='["a",1]', actor="user:ü"))

    (job,) = queries(store).jobs()
    assert (job.args, job.run_at, job.record_id, job.actor) == (
        args,
        NOW,
        '["a",1]',
        "user:ü",
    )


def test_a_keyed_job_is_one_until_it_completes(store):
    keyed = replace(NEW, dedupe_key="a:1")
    (first,) = put(store, keyed)
    (waiting,) = put(store, replace(keyed, priority=2))
    (job,) = claim(store)
    (running,) = put(store, keyed)
    state = finish(store, job, rests=True)
    (again,) = claim(store, token="t2")
    finish(store, again)
    (fresh,) = put(store, keyed)

    assert [r.outcome for r in (first, waiting, running, fresh)] == [
        Enqueued.INSERTED,
        Enqueued.COALESCED,
        Enqueued.RUN_AGAIN,
        Enqueued.INSERTED,
    ]
    assert (state, again.attempt) == (JobState.QUEUED, 1)
    assert fresh.job_id != first.job_id


@pytest.mark.parametrize("wrong", [{"token": "other"}, {"attempt": 7}, {"id": 99}])
def test_a_finish_is_fenced(store, wrong):
    put(store, NEW)
    (job,) = claim(store)

    assert finish(store, structs.replace(job, **wrong)) is None
    assert finish(store, job) is JobState.COMPLETED
    assert finish(store, job) is None


def test_only_held_leases_are_renewed(store):
    put(store, NEW, NEW)
    first, second = claim(store)
    finish(store, second)

    held = renew_leases(store, [first.id, second.id], node="n", until=LATER)

    assert [(h.job_id, h.token) for h in held] == [(first.id, "t")]
    assert renew_leases(store, [first.id], node="someone", until=LATER) == []


def test_staging_queues_what_is_due(store):
    put(
        store,
        replace(NEW, state=JobState.SCHEDULED, run_at=NOW),
        replace(NEW, state=JobState.SCHEDULED, run_at=LATER),
    )

    assert peek_queues(store, ["q"], ["a"]).next_due == NOW
    assert stage_due(store, ["q"], ["a"], NOW) == {"q"}
    assert peek_queues(store, ["q"], ["a"]).ready == {"q"}
    assert peek_queues(store, ["q"], ["a"]).next_due == LATER
    assert len(claim(store)) == 1


def test_only_leases_that_ran_out_are_found(store):
    put(store, NEW, NEW)
    (short,) = claim(store, limit=1, until=NOW)
    claim(store, limit=1, until=LATER + timedelta(hours=1))

    (found,) = find_expired(store, ["a"], LATER, lease=LEASE)
    assert (found.id, found.key, found.attempt, found.token) == (short.id, "a", 1, "t")
    assert find_expired(store, ["a"], LATER, lease=LEASE, skip=1) == []
    assert find_expired(store, ["unknown"], LATER, lease=LEASE) == []


def test_a_job_that_was_claimed_again_is_neither_put_aside_nor_discarded(store):
    put(store, NEW)
    claim(store, until=NOW)
    (found,) = find_expired(store, ["a"], LATER, lease=LEASE)

    with store.transaction() as connection:
        again = {"until": NOW, "reason": "no", "is_crash": True, "counts": True}
        assert put_aside(connection, found, token="new", **again)
        assert not put_aside(connection, found, token="newer", **again)
        assert not discard_stuck(
            connection,
            found,
            reason="no",
            outcome=JobOutcome.CRASHED,
            now=NOW,
            is_crash=True,
        )

    (again,) = find_expired(store, ["a"], LATER, lease=LEASE)
    assert (again.token, again.owner, again.crashes, again.attempt) == (
        "new",
        None,
        1,
        2,
    )


def test_notes_of_a_lost_job_are_refused(store):
    put(store, NEW)
    (job,) = claim(store)

    with store.transaction() as connection:
        assert note_on_job(connection, job, "progress", "1")
        assert not note_on_job(
            connection, structs.replace(job, token="old"), "progress", "2"
        )
    assert queries(store).job(job.id).progress == "1"
