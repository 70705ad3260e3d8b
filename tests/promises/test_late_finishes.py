"""P3: whoever comes back after the lease has ended can overwrite nothing.

A zombie claims, others take its job over, and then it finishes after all: in each way there is.
"""

import random
from datetime import timedelta

import pytest
from sqlalchemy import select

from statejobs.events import JobLate
from statejobs.runner.crash_points import CrashPoint
from statejobs.runner.executors import LoopThread
from statejobs.runner.port import Ending
from statejobs.store.tables import attempts, jobs, transitions
from tests.support.clock import ManualClock
from tests.support.parcels import (
    LEASE,
    POST,
    Base,
    Item,
    Letter,
    Message,
    Parcel,
    contradictions,
    enqueue,
    fire,
    post_office,
    reset_script,
    script,
    state_of,
)
from tests.support.size import size

EACH = size(12, 120)
"""Zombies of each case, on each database."""
pytestmark = pytest.mark.timeout(size(600, 1800))


def _own(parcel, _ctx):
    parcel.note = "zombie"


def _session(parcel, ctx):
    parcel.note = "zombie"
    ctx.session.add(Item(name="zombie", parcel_id=parcel.id))


async def _own_async(message, _ctx):
    message.text = "zombie"


async def _session_async(message, ctx):
    message.text = "zombie"
    ctx.session.add(Item(name="zombie", parcel_id=1))


def _atomic(letter, ctx):
    letter.grams = 666
    ctx.session.add(Item(name="zombie", parcel_id=1))


def _fail(_parcel, _ctx):
    raise RuntimeError("zombie")


WAYS = {
    "own columns": (Parcel, "send_off", {"send": _own}),
    "together": (Parcel, "send_off", {"send": _own}),
    "session": (Parcel, "send_off", {"send": _session}),
    "failure": (Parcel, "send_off", {"send": _fail}),
    "atomic": (Letter, "press", {"seal": _atomic}),
    "atomic, together": (Letter, "press", {"seal": _atomic}),
    "own columns, async": (Message, "get", {"fetch": _own_async}),
    "session, async": (Message, "get", {"fetch": _session_async}),
}


CASES = [(way, "before") for way in WAYS] + [
    (way, "after")
    for way in WAYS
    if not way.startswith("atomic")  # those hold their records until the commit
]


@pytest.fixture
def office(database_url):
    """An app on a clock that stands still; `app.at_return` is called when a body has returned."""
    clock = ManualClock()

    def reach(point):
        if point is CrashPoint.BODY_RETURNED:
            app.at_return()

    with post_office(database_url, clock=clock, reach=reach) as app:
        app.clock, app.at_return = clock, _nothing
        app.loop, app.loop_of_others = LoopThread(), LoopThread()
        yield app
        reset_script()
        for loop in (app.loop, app.loop_of_others):
            loop.stop(app._workers.async_engines.close_of_this_loop)


def _nothing():
    pass


def everything(app):
    """Every row of every table but that of the nodes."""
    tables = [*Base.metadata.sorted_tables, jobs, transitions, attempts]
    with app.engine.connect() as connection:
        return {
            t.name: sorted(map(repr, connection.execute(select(t)))) for t in tables
        }


def perform(runner, claim, loop):
    """Run a claim up to its end, or to a success that is still to be committed."""
    if claim.policy.is_async:
        return loop.run(runner.attempts.run_async([claim]))[0]
    return runner.attempts.run([claim])[0]


def take_over(app, zombies, rng):
    """Let the leases end; the jobs wait again, run elsewhere, or have run."""
    app.clock.advance(LEASE + timedelta(seconds=1))
    other = app.runner()
    rescued = 0
    while (found := other.rescue()) > 0:  # a round takes a hundred at most
        rescued += found
    assert rescued == len(zombies)
    reset_script()
    for claim in other.claim("default", limit=rng.randrange(len(zombies) + 1)):
        if rng.random() < 0.5:
            result = perform(other, claim, app.loop_of_others)
            if isinstance(result, Ending):
                other.finisher.finish(result)
    for claim in zombies:
        if isinstance(claim.subject.record, Parcel) and rng.random() < 0.2:
            key = claim.subject.identity[0]
            if state_of(app, Parcel, key) != "sent":
                fire(app, Parcel, key, "drop")


def finish(runner, results, *, together):
    """Commit what zombies come back with; return the outcomes."""
    successes = [result for result in results if isinstance(result, Ending)]
    ended = [result for result in results if not isinstance(result, Ending)]
    if together:
        accepted, successes = runner.finisher.finish_many(successes)
        ended += accepted
    ended += [runner.finisher.finish(success) for success in successes]
    return [one.outcome for one in ended]


@pytest.mark.parametrize(("way", "when"), CASES)
def test_a_zombie_writes_nothing(office, seed, way, when):
    kind, action, body = WAYS[way]
    rng, late, found = random.Random(seed), [], []
    office.telemetry.subscribe(lambda told: late.append(type(told)))
    enqueue(office, kind, action, EACH)
    runner = office.runner()
    zombies = runner.claim("default", limit=EACH)

    def others_come_first():
        office.at_return = _nothing
        take_over(office, zombies, rng)
        found.append(everything(office))
        late.clear()
        vars(script).update(body)

    vars(script).update(body)
    if when == "before":
        others_come_first()
    else:
        office.at_return = others_come_first
    if way == "atomic, together":
        results = [*runner.attempts.run(zombies)]
    else:
        results = [perform(runner, claim, office.loop) for claim in zombies]
    outcomes = finish(runner, results, together=way == "together")

    assert outcomes == ["late"] * EACH
    assert late.count(JobLate) == EACH
    assert [everything(office)] == found
    assert contradictions(office, POST.resources) == []
