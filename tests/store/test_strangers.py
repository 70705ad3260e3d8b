"""Jobs of other apps in our queue: ours are found beside them, best first, each once."""

import random
import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, literal, select, text

from statejobs.store import unclaimed
from statejobs.store.claim import lock_queued, lock_trusted, mark_processing
from statejobs.store.engines.factory import open_engine
from statejobs.store.schema import create_tables
from statejobs.store.staging import find_due
from statejobs.store.store import Store
from statejobs.store.strangers import lock_among_strangers, peek_queues
from statejobs.store.tables import jobs
from statejobs.values.suspects import Suspects
from tests.support.effort import effort_of

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
OURS = ["a.first", "m.middle", "z.last"]
MANY = [*OURS, *(f"own.{n:03}" for n in range(200))]
BACKLOG = 10_000
SAME = {
    "queue": "q",
    "priority": 0,
    "state": "queued",
    "run_at": NOW,
    "args": "{}",
    "tags": "[]",
    "idempotency_key": "i",
    "max_attempts": 5,
    "enqueued_at": NOW,
}


@pytest.fixture
def store(database_url):
    engine = open_engine(database_url)
    create_tables(engine)
    yield Store(engine)
    engine.dispose()


def put(store, rows):
    with store.engine.begin() as connection:
        for row in rows:
            connection.execute(insert(jobs), {**SAME, **row})


def put_many(store, *keys, count=BACKLOG, **values):
    """Insert *count* rows for each of *keys*, with one statement for each."""
    n = select(literal(1).label("n")).cte("n", recursive=True)
    n = n.union_all(select(n.c.n + 1).where(n.c.n < count))
    with store.engine.begin() as connection:
        for key in keys:
            row = {**SAME, "key": key, **values}
            each = [literal(value, jobs.c[name].type) for name, value in row.items()]
            connection.execute(
                insert(jobs).from_select(list(row), select(*each).select_from(n))
            )


def put_strangers(store, *, names=1, count=BACKLOG):
    put_many(store, *(f"stranger.{n:05}" for n in range(names)), count=count // names)


def put_ended(store):
    put_many(store, "m.middle", count=3_000, state="completed", finished_at=NOW)


def remember_statistics(store):
    """Let the planner know what the tables hold now, and nothing of what follows."""
    with store.engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            off = "ALTER TABLE statejobs_jobs SET (autovacuum_enabled = off)"
            connection.execute(text(off))
        connection.execute(text("ANALYZE"))


def lock(store, limit, *, keys=OURS, among_strangers=True, suspects=Suspects.ANY):
    with store.transaction() as connection:
        take = lock_among_strangers if among_strangers else lock_queued
        found = take(
            connection,
            "q",
            keys,
            limit=limit,
            suspects=suspects,
            sturdy=keys[:1],
        )
        connection.rollback()
    return [job.id for job in found]


def find(store, limit, suspects, *, among_strangers):
    with store.single() as connection:
        return unclaimed.find_queued(
            connection,
            "q",
            OURS,
            limit=limit,
            suspects=suspects,
            sturdy=OURS[:1],
            among_strangers=among_strangers,
        )


# ---- the same jobs, in the same order ----------------------------------------------------------


def any_job(rng):
    return {
        "key": rng.choice([*OURS, "stranger.1", "b.stranger"]),
        "queue": rng.choice(["q", "q", "other"]),
        "priority": rng.choice([0, 0, 5, 9]),
        "run_at": NOW + timedelta(seconds=rng.randrange(3)),
        "state": rng.choice(["queued", "queued", "queued", "completed", "scheduled"]),
        "crashes": rng.choice([0, 0, 0, 1, 2]),
        "attempt": rng.choice([0, 1, 4]),
    }


def test_a_claim_beside_strangers_takes_what_the_usual_claim_takes_in_its_order(store):
    rng = random.Random(20300101)
    for _ in range(12):
        with store.engine.begin() as connection:
            connection.execute(jobs.delete())
        put(store, [any_job(rng) for _ in range(rng.choice([3, 40, 200]))])
        for limit, suspects in [
            (1, Suspects.ANY),
            (7, Suspects.SHARING),
            (500, Suspects.NONE),
        ]:
            usual, beside = (
                lock(store, limit, among_strangers=mixed, suspects=suspects)
                for mixed in (False, True)
            )
            assert beside == usual
            assert find(store, limit, suspects, among_strangers=True) == find(
                store, limit, suspects, among_strangers=False
            )


def test_a_claim_of_no_key_takes_nothing(store):
    put_strangers(store, count=3)

    assert lock(store, 5, keys=[]) == []
    assert peek_queues(store, ["q"], []).ready == frozenset()


def test_what_others_hold_is_passed_over_however_much_it_is(store):
    if store.dialect == "sqlite":
        pytest.skip("one writer at a time: nobody holds anything")
    put(store, [{"key": OURS[n % 3]} for n in range(200)])
    put_strangers(store, count=200)
    every = lock(store, 200)

    with store.transaction() as connection:
        held = lock_queued(connection, "q", OURS, limit=150)
        free = lock(store, 4)
        none_left = lock(store, 100)

    assert [job.id for job in held] == every[:150]
    assert free == every[150:154]
    assert none_left == every[150:]


def test_many_that_claim_at_once_beside_strangers_take_each_job_once(store):
    put(store, [{"key": OURS[n % 3], "priority": n % 4} for n in range(400)])
    put_strangers(store, count=500)
    taken, empty = [], []

    def claim(number):
        while True:
            with store.transaction() as connection:
                found = lock_among_strangers(connection, "q", OURS, limit=7)
                mark_processing(
                    connection,
                    [job.id for job in found],
                    source=None,
                    node=f"n{number}",
                    token=f"t{number}",
                    now=NOW,
                    until=LATER,
                )
            taken.extend(job.id for job in found)
            if not found:
                empty.append(number)
                return

    claimers = [threading.Thread(target=claim, args=(n,)) for n in range(4)]
    for claimer in claimers:
        claimer.start()
    for claimer in claimers:
        claimer.join(120)

    with store.engine.connect() as connection:
        left = connection.scalars(
            select(jobs.c.key).where(jobs.c.state == "queued")
        ).all()
    assert (len(taken), len(set(taken))) == (400, 400)
    assert set(left) == {"stranger.00000"}
    assert sorted(empty) == [0, 1, 2, 3]


# ---- what a look shows --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waiting", "is_ready", "has_strangers"),
    [
        ([], False, False),
        (OURS, True, False),
        (["b.stranger"], False, True),
        (["b.stranger", "m.middle"], True, True),
        (["a.first", "b.stranger"], True, True),
        (["z.last", "zz.stranger"], True, True),
        (["a", "b", "c", "n", "z"], False, True),
        (["a", "b", "c", "n", "z", "z.last"], True, True),
    ],
)
def test_a_look_tells_ours_from_strangers_wherever_their_keys_sort(
    store, waiting, is_ready, has_strangers
):
    put(store, [{"key": key} for key in waiting for _ in range(3)])
    put(
        store,
        [{"key": "m.middle", "queue": "other"}, {"key": "x", "queue": "unserved"}],
    )

    peek = peek_queues(store, ["q", "other", "idle"], OURS)

    assert peek.ready == ({"q", "other"} if is_ready else {"other"})
    assert peek.strangers == ({"q"} if has_strangers else set())


# ---- how much is read ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "keys"), [(1, OURS), (200, MANY)], ids=["one key", "many"]
)
@pytest.mark.parametrize("knows", ["before", "after"])
def test_a_backlog_of_strangers_makes_no_look_and_no_claim_read_more(
    store, names, knows, keys
):
    put_ended(store)
    put(store, [{"key": "m.middle", "priority": 9}] * 3)
    remember_statistics(store)
    asked = [
        lambda: peek_queues(store, ["q", "idle"], keys),
        lambda: lock(store, 1, keys=keys),
        lambda: lock(store, 20, keys=keys),
        lambda: find_last(store),
        lambda: fill(store),
    ]
    alone = [effort_of(one, store.engine) for one in asked]

    put_strangers(store, names=names)
    if knows == "after":
        remember_statistics(store)

    beside = [effort_of(one, store.engine) for one in asked]
    allowed = [3 * usual + 20 + 3 * len(keys) for usual in alone]
    assert all(now <= most for now, most in zip(beside, allowed, strict=True)), (
        alone,
        beside,
    )


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_scheduled_jobs_of_strangers_are_passed_over_within_the_index(store):
    put_many(store, "stranger.00000", state="scheduled")
    put_many(store, "m.middle", count=3, state="scheduled")
    remember_statistics(store)
    due = lambda: find_due(store, ["q"], OURS, NOW, limit=100)  # noqa: E731

    assert (
        effort_of(lambda: peek_queues(store, ["q"], OURS), store.engine) < BACKLOG / 20
    )
    assert effort_of(due, store.engine) < BACKLOG / 20


def test_the_usual_claim_sorts_no_backlog_of_keys_that_the_planner_takes_for_rare(
    store,
):
    put_strangers(store)
    put(store, [{"key": "m.middle"}])
    remember_statistics(store)
    with store.engine.begin() as connection:
        connection.execute(jobs.delete().where(jobs.c.key == "stranger.00000"))

    put_many(store, *OURS, count=BACKLOG // 3)

    assert effort_of(lambda: lock(store, 20, among_strangers=False), store.engine) < 300


def find_last(store):
    with store.single() as connection:
        return unclaimed.find_last(connection, "q", "m.middle", limit=100)


def fill(store):
    with store.transaction() as connection:
        lock_trusted(connection, "q", "m.middle", limit=100)
        connection.rollback()
