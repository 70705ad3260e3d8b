"""When a node lets go of jobs whose lease it could not renew."""

from datetime import timedelta

import pytest

from statejobs.runner.keeper import HeldClaims, Keeper
from tests.support.parcels import LEASE, send

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
