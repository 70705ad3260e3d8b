"""A row of ours that somebody spoiled costs its own job, and no other; SQLite holds any value."""

import logging
from datetime import timedelta

import pytest
from sqlalchemy import text

from statejobs import Retention
from statejobs.runner.strays import Strays
from statejobs.store.hold import renew_leases
from statejobs.work.prune import Pruner
from tests.support.hostile import execute
from tests.support.parcels import post_office, send

NOT_TEXT = "CAST(x'ff' AS TEXT)"
LARGEST = 2**31 - 1
TEXTS = [
    "owner",
    "token",
    "reason",
    "args",
    "actor",
    "tags",
    "progress",
    "idempotency_key",
]
NUMBERS = ["attempt", "max_attempts", "crashes", "coalesced", "returned"]
TIMES = ["started_at", "enqueued_at", "run_at"]
SPOILED = [
    *(f"{column} = {NOT_TEXT}" for column in (*TEXTS, *NUMBERS, *TIMES)),
    *(f"{column} = x'ff00'" for column in ("token", "args", "attempt", *TIMES)),
    *(f"{column} = 'x'" for column in (*NUMBERS, *TIMES)),
    *(f"{column} = 1e999" for column in ("attempt", "crashes")),
    *(f"{column} = 9223372036854775807" for column in ("attempt", "crashes")),
    "started_at = '2020-13-45 99:99:99'",
]
"""What SQLite lets anybody write."""


@pytest.fixture
def sqlite_app(tmp_path, clock):
    """An app on SQLite; what its spoiled rows say agrees with nothing at the end."""
    with post_office(f"sqlite:///{tmp_path}/spoiled.db", clock=clock) as opened:
        yield opened


def spoil(app, key, values):
    execute(app, f"UPDATE statejobs_jobs SET {values} WHERE record_id = '{key}'")


def states(app, keys):
    """The states of parcels as they are stored."""
    with app.engine.connect() as connection:
        found = dict(connection.execute(text("SELECT id, state FROM parcels")).all())
    return [found[key] for key in keys]


def job_state(app, key):
    query = text("SELECT state FROM statejobs_jobs WHERE record_id = :key")
    with app.engine.connect() as connection:
        return connection.scalar(query, {"key": str(key)})


def run_for_hours(app, clock, *, rounds=4):
    for _ in range(rounds):
        clock.advance(hours=2)
        app.runner().rescue()
        app.drain()


@pytest.mark.parametrize("values", SPOILED)
def test_a_spoiled_row_costs_its_own_job_alone(sqlite_app, clock, values):
    held, *good_held = send(sqlite_app, 3)
    sqlite_app.runner().claim("default", limit=2)  # by a worker that dies
    queued, failed, *good = send(sqlite_app, 3)
    spoil(sqlite_app, failed, "state = 'failed'")
    for bad in (held, queued, failed):
        spoil(sqlite_app, bad, values)

    run_for_hours(sqlite_app, clock)

    assert states(sqlite_app, [*good_held, *good]) == ["sent"] * 3


@pytest.mark.parametrize("state", ["queued", "processing"])
@pytest.mark.parametrize("column", NUMBERS)
def test_the_largest_count_that_a_column_holds_costs_its_own_job_alone(
    app, clock, state, column
):
    bad, *good = send(app, 3)
    if state == "processing":
        app.runner().claim("default", limit=2)
    spoil(app, bad, f"{column} = {LARGEST}")

    run_for_hours(app, clock)

    assert states(app, good) == ["sent", "sent"]
    ends = "completed" if column == "max_attempts" else "discarded"
    assert job_state(app, bad) == ends
    execute(app, "DELETE FROM statejobs_jobs")
    execute(app, "DELETE FROM statejobs_attempts")
    execute(app, "DELETE FROM statejobs_transitions")
    execute(app, "DELETE FROM parcels")  # what one of them says agrees with nothing


@pytest.mark.parametrize(
    "values", ["attempt = 'x'", f"attempt = {NOT_TEXT}", "crashes = x'ff'"]
)
def test_what_cannot_be_read_is_discarded_and_told_once(
    sqlite_app, clock, caplog, values
):
    bad, *_ = send(sqlite_app, 3)
    spoil(sqlite_app, bad, values)

    with caplog.at_level(logging.ERROR):
        run_for_hours(sqlite_app, clock)

    assert job_state(sqlite_app, bad) == "discarded"
    assert (
        sum(
            "its row cannot be read" in record.getMessage() for record in caplog.records
        )
        == 1
    )


@pytest.mark.parametrize(
    "values", ["attempt = 'x'", f"attempt = {NOT_TEXT}", "crashes = 'x'"]
)
def test_an_expired_job_that_cannot_be_read_ends(sqlite_app, clock, values):
    bad, *_ = send(sqlite_app, 3)
    sqlite_app.runner().claim("default", limit=2)
    spoil(sqlite_app, bad, values)

    run_for_hours(sqlite_app, clock)

    assert job_state(sqlite_app, bad) == "discarded"


@pytest.mark.parametrize("column", ["token", "owner"])
def test_a_spoiled_claim_is_replaced_by_the_rescue_and_the_job_goes_on(
    sqlite_app, clock, column
):
    bad, *_ = send(sqlite_app, 3)
    sqlite_app.runner().claim("default", limit=2)
    spoil(sqlite_app, bad, f"{column} = {NOT_TEXT}")

    run_for_hours(sqlite_app, clock)

    assert states(sqlite_app, [bad]) == ["sent"]


@pytest.mark.parametrize("values", [f"token = {NOT_TEXT}", f"reason = {NOT_TEXT}"])
def test_the_leases_of_others_are_renewed_beside_a_spoiled_row(
    sqlite_app, clock, values
):
    bad, *good = send(sqlite_app, 3)
    runner = sqlite_app.runner()
    claims = runner.claim("default", limit=3)
    spoil(sqlite_app, bad, values)
    ids = [claim.job.id for claim in claims]

    held = renew_leases(
        runner.store, ids, node=runner.node_id, until=clock.now() + timedelta(minutes=5)
    )

    renewed = {one.job_id for one in held}
    assert {c.job.id for c in claims if c.job.record_id in map(str, good)} <= renewed


@pytest.mark.parametrize(
    "values", ["attempt = 'x'", f"token = {NOT_TEXT}", "started_at = 'x'"]
)
def test_strays_are_given_back_beside_a_spoiled_row(sqlite_app, clock, values):
    bad, *good = send(sqlite_app, 3)
    runner = sqlite_app.runner()
    runner.claim("default", limit=3)
    spoil(sqlite_app, bad, values)
    clock.advance(hours=1)
    strays = Strays(
        runner.store,
        runner.work,
        runner.finisher.steps,
        node_id=runner.node_id,
        settings=runner.settings,
        sources=runner.sources,
    )

    assert strays.give_back_unheld(()) == 2
    assert states(sqlite_app, good) == ["packed", "packed"]


@pytest.mark.parametrize(
    "values",
    [
        "finished_at = '2020-13-45 99:99:99'",
        f"record_id = {NOT_TEXT}",
        f"key = {NOT_TEXT}",
    ],
)
@pytest.mark.parametrize("batch", [1, 2, 100])
@pytest.mark.parametrize("dry_run", [True, False])
def test_jobs_are_pruned_beside_a_spoiled_row(
    sqlite_app, clock, values, batch, dry_run
):
    bad, *_ = send(sqlite_app, 4)
    sqlite_app.drain()
    execute(
        sqlite_app,
        "UPDATE statejobs_jobs SET finished_at = '2020-0' || id || '-01 00:00:00.000000'",
    )
    spoil(sqlite_app, bad, values)
    age = timedelta(days=1)
    pruner = Pruner(
        sqlite_app.registry,
        sqlite_app.store,
        Retention(batch=batch),
        sources=sqlite_app.sources,
        telemetry=sqlite_app.telemetry,
    )

    pruned = pruner.prune(Retention(completed=age, batch=batch), dry_run=dry_run)

    assert pruned.jobs["completed"] >= 3
