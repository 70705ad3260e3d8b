"""Jobs of another app in the queue of a node: it claims by key, as long as they are there."""

import pytest

from statejobs import JobState
from tests.support.effort import selects_of
from tests.support.hostile import allow_updates, execute, refuse_updates
from tests.support.parcels import Parcel, job_of, send, state_of


def put_strangers(app, count):
    """Queue jobs of another app before all of ours."""
    keys = send(app, count, priority=0)
    listed = ", ".join(f"'{key}'" for key in keys)
    execute(
        app,
        "UPDATE statejobs_jobs SET key = 'other.app', dedupe_key = NULL, run_at = enqueued_at"
        f" WHERE record_id IN ({listed})",
    )


def remove_strangers(app):
    execute(app, "DELETE FROM statejobs_jobs WHERE key = 'other.app'")


def claim_once(runner):
    """Claim one job, and give it back."""
    (claim,) = runner.claim("default", limit=1)
    runner.finisher.release(claim)


def test_a_claim_needs_a_statement_more_only_while_strangers_wait(app):
    send(app, 5)
    runner = app.runner()
    before = len(selects_of(lambda: claim_once(runner)))

    put_strangers(app, 3)
    runner.claiming.look(["default"])
    beside = len(selects_of(lambda: claim_once(runner)))
    remove_strangers(app)
    runner.claiming.look(["default"])
    after = len(selects_of(lambda: claim_once(runner)))

    assert (beside - before, after) == (1, before)


def test_a_key_that_this_node_cannot_run_now_counts_as_a_stranger(app):
    send(app, 2)
    runner = app.runner()

    runner.claiming.held.hold("parcel.send", "no column", RuntimeError("no column"))

    assert runner.claiming.look(["default"]).strangers == {"default"}


def test_a_drain_runs_ours_and_leaves_the_strangers(app):
    put_strangers(app, 3)
    ours = send(app, 3)

    app.drain()

    assert [state_of(app, Parcel, key) for key in ours] == ["sent"] * 3
    assert app.queries.counts()["default"][JobState.QUEUED] == 3
    remove_strangers(app)


@pytest.mark.parametrize("limit", [1, 10])
def test_one_record_that_raises_stops_no_other_beside_strangers(app, limit):
    put_strangers(app, 3)
    bad, *good = send(app, 6)
    refuse_updates(app, "parcels", f"NEW.id = {bad}")
    runner = app.runner()
    runner.claiming.look(["default"])

    while claims := runner.claim("default", limit=limit):
        for claim in claims:
            runner.run(claim)

    assert [state_of(app, Parcel, key) for key in good] == ["sent"] * 5
    assert job_of(app, Parcel, bad).state is JobState.FAILED
    allow_updates(app, "parcels")
    remove_strangers(app)
