"""When a node warns jobs whose lease it could not renew, and when it takes others for dead."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from statejobs import JobState
from statejobs.runner.keeper import HeldClaims, Keeper
from statejobs.store.hold import renew_leases
from statejobs.store.nodes import beat_node, register_node
from statejobs.store.tables import jobs
from tests.support.parcels import LEASE, Parcel, job_of, post_office, script, send

ROUND = LEASE / 20


@pytest.fixture
def claim(app):
    send(app)
    (claim,) = app.runner().claim("default", limit=1)
    return claim


@pytest.fixture
def keeper(app, claim):
    runner, held = app.runner(), HeldClaims()
    held.add([claim])
    return Keeper(
        runner.store,
        held,
        node_id=claim.job.owner,
        settings=runner.settings,
        sources=runner.sources,
        telemetry=runner.telemetry,
    )


def test_what_no_heartbeat_renews_is_asked_to_stop_before_its_lease_ends(
    keeper, claim, clock
):
    waited = timedelta()
    while not claim.signal:
        clock.advance(ROUND)
        waited += ROUND
        keeper.watch()

    assert LEASE * 0.8 < waited < LEASE * 0.95


def test_after_a_standstill_the_heartbeat_has_the_first_word(keeper, claim, clock):
    clock.advance(LEASE * 0.9)
    keeper.watch()
    assert not claim.signal

    assert keeper.run_once()
    clock.advance(ROUND)
    keeper.watch()
    assert not claim.signal


def test_a_heartbeat_that_stays_away_after_a_standstill_is_not_waited_for(
    keeper, claim, clock
):
    clock.advance(LEASE * 0.9)
    keeper.watch()
    clock.advance(ROUND)
    keeper.watch()

    assert claim.signal
    assert not claim.is_lost


@pytest.mark.postgres
def test_a_job_that_someone_locked_holds_up_no_other_lease(postgres_url, clock):
    """A user's open transaction has enqueued one of them again, or a blocked loop ends it."""
    with post_office(postgres_url, clock=clock) as app:
        send(app, number=2)
        runner, held = app.runner(), HeldClaims()
        locked, _ = claims = runner.claim("default", limit=2)
        held.add(claims)
        keeper = Keeper(
            runner.store,
            held,
            node_id=runner.node_id,
            settings=runner.settings,
            sources=runner.sources,
            telemetry=runner.telemetry,
        )
        clock.advance(LEASE / 2)

        def leases():
            return [
                app.queries.job(one.job.id).lease_until - clock.now() for one in claims
            ]

        with app.engine.begin() as user:
            user.execute(
                update(jobs).where(jobs.c.id == locked.job.id).values(run_again=True)
            )

            assert not keeper.run_once()  # and is called again soon
            assert leases() == [LEASE / 2, LEASE]

        assert keeper.run_once()
        assert leases() == [LEASE, LEASE]
        assert [one.is_lost for one in claims] == [False, False]


def test_after_an_outage_nobody_is_taken_for_dead_for_a_lease(keeper, clock):
    assert keeper.run_once()
    assert keeper.may_rescue

    clock.advance(LEASE)
    assert not keeper.may_rescue
    assert keeper.run_once()
    clock.advance(LEASE / 3)
    assert keeper.run_once()
    assert not keeper.may_rescue

    clock.advance(LEASE / 3)
    assert keeper.run_once()
    clock.advance(LEASE / 3)
    assert keeper.may_rescue


def test_what_ends_after_an_outage_longer_than_its_lease_is_recorded(
    app, clock, claim, keeper
):
    clock.advance(LEASE * 2)
    keeper.watch()
    clock.advance(ROUND)
    keeper.watch()
    assert claim.signal

    ended = app.runner().run(claim)

    assert ended.outcome == "complete"
    assert (job_of(app, Parcel, 1).crashes, job_of(app, Parcel, 1).attempt) == (0, 1)


def test_an_attempt_that_an_outage_asked_to_stop_does_not_count(
    app, clock, claim, keeper
):
    def stop_when_asked(parcel, ctx):
        if ctx.cancel_requested:
            raise RuntimeError("stopped")

    script.send = stop_when_asked
    clock.advance(LEASE * 2)
    keeper.watch()
    clock.advance(ROUND)
    keeper.watch()

    ended = app.runner().run(claim)

    assert ended.outcome == "give_back"
    assert job_of(app, Parcel, 1).attempt == 0


def beat(app, claim, clock):
    """Let the node of *claim* live, without renewing its leases."""
    node = claim.job.owner
    if not beat_node(app.store, node, clock.now()).is_known:
        register_node(
            app.store,
            {
                "id": node,
                "host": "here",
                "pid": 1,
                "queues": "{}",
                "version": "0",
                "started_at": clock.now(),
                "beat_at": clock.now(),
            },
        )


def test_a_live_job_is_not_taken_for_dead_because_somebody_locked_its_row(
    app, clock, claim
):
    beat(app, claim, clock)
    for _ in range(5):
        clock.advance(LEASE / 2)
        beat(app, claim, clock)
        assert app.runner().rescue() == 0

    assert app.runner().run(claim).outcome == "complete"


def test_a_lapsed_lease_of_a_live_node_is_rescued_after_three(app, clock, claim):
    clock.advance(LEASE * 3.1)
    beat(app, claim, clock)

    assert app.runner().rescue() == 1


def test_a_silent_node_loses_its_jobs_after_one_lease(app, clock, claim):
    beat(app, claim, clock)
    clock.advance(LEASE * 1.1)

    assert app.runner().rescue() == 1


def test_a_job_that_its_node_does_not_know_of_is_given_back_by_a_heartbeat(app, clock):
    """The answer to its claim was lost, and nobody rescues from a node that beats."""
    runner = app.runner()
    (key,) = send(app)
    runner.claim("default", limit=1)

    assert runner.strays.give_back_unheld([]) == 0  # it may be on its way
    clock.advance(LEASE * 0.6)
    assert runner.strays.give_back_unheld([]) == 1

    job = job_of(app, Parcel, key)
    assert (job.state, job.attempt, job.crashes, job.returned) == (
        JobState.SCHEDULED,
        0,
        0,
        1,
    )
    clock.advance(seconds=1)
    assert app.drain().counts == {"complete": 1}


def test_what_a_node_holds_is_never_given_back_by_its_heartbeat(app, clock, claim):
    other = app.runner()
    clock.advance(LEASE * 0.6)

    assert other.strays.give_back_unheld([]) == 0  # it is another's
    renew_leases(
        app.store, [claim.job.id], node=claim.job.owner, until=clock.now() + LEASE / 3
    )
    own = app.runner()
    own.strays._node_id = claim.job.owner
    assert own.strays.give_back_unheld([claim]) == 0

    assert other.run(claim).outcome == "complete"
