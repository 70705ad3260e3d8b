"""When a node lets go of jobs whose lease it could not renew."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from statejobs.runner.keeper import HeldClaims, Keeper
from statejobs.store.tables import jobs
from tests.support.parcels import LEASE, post_office, send

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
        runner.store, held, node_id=claim.job.owner, settings=runner.settings,
        sources=runner.sources, telemetry=runner.telemetry,
    )  # fmt: skip


def test_what_no_heartbeat_renews_is_dropped_before_its_lease_ends(keeper, claim, clock):
    waited = timedelta()
    while not claim.is_lost:
        clock.advance(ROUND)
        waited += ROUND
        keeper.watch()

    assert LEASE * 0.8 < waited < LEASE * 0.95


def test_after_a_standstill_the_heartbeat_has_the_first_word(keeper, claim, clock):
    clock.advance(LEASE * 0.9)
    keeper.watch()
    assert not claim.is_lost

    assert keeper.run_once()
    clock.advance(ROUND)
    keeper.watch()
    assert not claim.is_lost


def test_a_heartbeat_that_stays_away_after_a_standstill_is_not_waited_for(keeper, claim, clock):
    clock.advance(LEASE * 0.9)
    keeper.watch()
    clock.advance(ROUND)
    keeper.watch()

    assert claim.is_lost


@pytest.mark.postgres
def test_a_job_that_someone_locked_holds_up_no_other_lease(postgres_url, clock):
    """A user's open transaction has enqueued one of them again, or a blocked loop ends it."""
    with post_office(postgres_url, clock=clock) as app:
        send(app, number=2)
        runner, held = app.runner(), HeldClaims()
        locked, _ = claims = runner.claim("default", limit=2)
        held.add(claims)
        keeper = Keeper(
            runner.store, held, node_id=runner.node_id, settings=runner.settings,
            sources=runner.sources, telemetry=runner.telemetry,
        )  # fmt: skip
        clock.advance(LEASE / 2)

        def leases():
            return [app.queries.job(one.job.id).lease_until - clock.now() for one in claims]

        with app.engine.begin() as user:
            user.execute(update(jobs).where(jobs.c.id == locked.job.id).values(run_again=True))

            assert not keeper.run_once()  # and is called again soon
            assert leases() == [LEASE / 2, LEASE]

        assert keeper.run_once()
        assert leases() == [LEASE, LEASE]
        assert [one.is_lost for one in claims] == [False, False]
