"""A record that row security hides from a worker is not gone: no job of it is lost for that."""

import uuid

import pytest
from sqlalchemy import make_url

from statejobs import JobState
from statejobs.runner.port import Ending
from tests.support import parcels
from tests.support.clock import ManualClock
from tests.support.hostile import execute
from tests.support.parcels import (
    LEASE,
    Letter,
    Message,
    Parcel,
    attempts_of,
    enqueue,
    job_of,
    post_office,
    send,
    state_of,
)

pytestmark = pytest.mark.postgres

TABLES = {Parcel: "parcels", Letter: "letters", Message: "messages"}
FORMS = [(Parcel, "send_off"), (Letter, "press"), (Letter, "put_on_scale")]
"""`def`; atomic; without `during`."""
CLERK = f"clerk_{uuid.uuid4().hex[:8]}"
"""A role belongs to the server, which other tests share."""
WHY = f"row security on {{}} hides its record from the role {CLERK}, or it is gone"


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def office(postgres_url, clock):
    """An app whose role may see what the policies show, and one of the owner of the tables."""
    with post_office(postgres_url, clock=clock, prefix="o") as owner:
        execute(
            owner,
            f"CREATE ROLE {CLERK} LOGIN",
            f"GRANT USAGE ON SCHEMA public TO {CLERK}",
            f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {CLERK}",
            f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {CLERK}",
        )
        for table in TABLES.values():
            execute(owner, f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        show(owner)
        url = make_url(postgres_url).set(username=CLERK)
        with post_office(url, clock=clock, prefix="c") as app:
            yield owner, app
        parcels.reset_script()
        execute(owner, f"DROP OWNED BY {CLERK}", f"DROP ROLE {CLERK}")


def show(owner, *, read="true", write="true"):
    """Let the clerk see, and write, the records for which these conditions hold."""
    for table in TABLES.values():
        execute(
            owner,
            f"DROP POLICY IF EXISTS reads ON {table}",
            f"DROP POLICY IF EXISTS writes ON {table}",
            f"CREATE POLICY reads ON {table} FOR SELECT USING ({read})",
            f"CREATE POLICY writes ON {table} FOR UPDATE USING ({write}) WITH CHECK (true)",
        )


def claim_and_run(app):
    runner = app.runner()
    for claim in runner.claim("default", limit=10):
        runner.run(claim)
    return runner


def is_untouched(app, kind, key, state):
    job = job_of(app, kind, key)
    return (
        state_of(app, kind, key) == state
        and (job.attempt, job.crashes, attempts_of(app, kind, key)) == (0, 0, [])
        and job.state in {JobState.QUEUED, JobState.SCHEDULED}
    )


HIDINGS = [{"read": "id <> {}"}, {"write": "id <> {}"}]
NAMES = ["from_select", "from_update"]


@pytest.mark.parametrize("hiding", HIDINGS, ids=NAMES)
def test_one_hidden_record_of_many_waits_without_an_attempt_and_holds_nobody_up(
    office, clock, hiding
):
    owner, app = office
    keys = send(owner, 5)
    show(
        owner, **{name: condition.format(keys[2]) for name, condition in hiding.items()}
    )

    claim_and_run(app)

    states = [state_of(owner, Parcel, key) for key in keys]
    assert states == ["sent", "sent", "packed", "sent", "sent"]
    assert is_untouched(owner, Parcel, keys[2], "packed")
    ((key, count, reason),) = (
        (row["key"], row["count"], row["reason"])
        for row in owner.queries.waiting_for_other_code(clock.now())
    )
    assert (key, count, WHY.format("parcels") in reason) == ("parcel.send", 1, True)


@pytest.mark.parametrize("hiding", HIDINGS, ids=NAMES)
def test_a_hidden_record_that_is_alone_waits_and_runs_once_it_is_shown(
    office, clock, hiding
):
    owner, app = office
    (key,) = send(owner)
    show(owner, **{name: condition.format(key) for name, condition in hiding.items()})

    runner = claim_and_run(app)
    assert is_untouched(owner, Parcel, key, "packed")
    assert runner.claiming.held.all() == {}

    show(owner)
    clock.advance(minutes=1)
    app.drain()
    assert state_of(owner, Parcel, key) == "sent"


@pytest.mark.parametrize("hiding", [{"read": "false"}, {"write": "false"}], ids=NAMES)
def test_when_every_record_is_hidden_the_key_is_left_to_workers_of_other_roles(
    office, hiding
):
    owner, app = office
    keys = send(owner, 8)
    show(owner, **hiding)

    runner = claim_and_run(app)

    assert all(is_untouched(owner, Parcel, key, "packed") for key in keys)
    assert WHY.format("parcels") in runner.claiming.held.all()["parcel.send"].reason
    claim_and_run(owner)
    assert {state_of(owner, Parcel, key) for key in keys} == {"sent"}


def test_a_policy_that_lets_a_record_not_be_moved_costs_no_attempt(office):
    owner, app = office
    keys = send(owner, 3)
    # it must see what it makes of it
    show(owner, read=f"id <> {keys[1]} OR state = 'packed'")

    claim_and_run(app)

    assert [state_of(owner, Parcel, key) for key in keys] == ["sent", "packed", "sent"]
    assert is_untouched(owner, Parcel, keys[1], "packed")


@pytest.mark.parametrize("hiding", [{"read": "false"}, {"write": "false"}], ids=NAMES)
@pytest.mark.parametrize(("kind", "action"), FORMS)
def test_a_record_that_is_hidden_at_the_finish_is_not_lost(
    office, clock, kind, action, hiding
):
    owner, app = office
    (key,) = enqueue(owner, kind, action)
    source = state_of(owner, kind, key)
    runner = app.runner()
    (claim,) = runner.claim("default", limit=1)
    show(owner, **hiding)

    runner.run(claim)

    assert_put_aside(owner, kind, key)
    show(owner)
    clock.advance(minutes=1)
    app.runner().rescue()
    assert state_of(owner, kind, key) == source
    assert (job_of(owner, kind, key).attempt, job_of(owner, kind, key).crashes) == (
        0,
        0,
    )
    app.drain()
    assert job_of(owner, kind, key).state is JobState.COMPLETED


@pytest.mark.parametrize("hiding", [{"read": "false"}, {"write": "false"}], ids=NAMES)
def test_a_record_that_is_hidden_while_an_async_action_runs_is_not_lost(
    office, clock, hiding
):
    owner, app = office
    (key,) = enqueue(owner, Message, "get")

    async def hide(_message, _ctx):
        show(owner, **hiding)

    parcels.script.fetch = hide

    app.drain()

    assert_put_aside(owner, Message, key)
    parcels.reset_script()
    show(owner)
    clock.advance(minutes=1)
    app.runner().rescue()
    app.drain()
    assert job_of(owner, Message, key).state is JobState.COMPLETED


def assert_put_aside(owner, kind, key):
    job = job_of(owner, kind, key)
    assert (job.state, job.owner) == (JobState.PROCESSING, None)
    assert WHY.format(TABLES[kind]) in job.reason


@pytest.mark.parametrize("hiding", HIDINGS, ids=NAMES)
def test_one_hidden_at_the_finish_of_a_batch_takes_no_neighbour_with_it(office, hiding):
    owner, app = office
    keys = enqueue(owner, Letter, "press", 4)
    parcels.script.seal = lambda letter, ctx: setattr(letter, "grams", letter.grams + 1)
    runner = app.runner()
    claims = runner.claim("default", limit=10)
    show(
        owner, **{name: condition.format(keys[1]) for name, condition in hiding.items()}
    )

    for ended in runner.attempts.run(claims):
        if isinstance(ended, Ending):
            runner.finisher.finish(ended)

    assert [state_of(owner, Letter, key) for key in keys] == [
        "sealed",
        "sealing",
        "sealed",
        "sealed",
    ]
    assert job_of(owner, Letter, keys[1]).state is JobState.PROCESSING


@pytest.mark.parametrize("hiding", [{"read": "false"}, {"write": "false"}], ids=NAMES)
def test_the_rescue_leaves_a_hidden_record_to_nodes_that_see_it(
    office, clock, caplog, hiding
):
    owner, app = office
    (key,) = send(owner)
    owner.runner().claim("default", limit=1)
    show(owner, **hiding)
    clock.advance(LEASE * 4)

    app.runner().rescue()

    job = job_of(owner, Parcel, key)
    assert (job.state, job.crashes) == (JobState.PROCESSING, 0)
    assert WHY.format("parcels") in caplog.text
    owner.runner().rescue()
    assert (state_of(owner, Parcel, key), job_of(owner, Parcel, key).crashes) == (
        "packed",
        1,
    )


def test_a_record_that_somebody_holds_is_busy_and_not_hidden(office, clock):
    owner, app = office
    (key,) = send(owner)
    show(owner)
    with owner.engine.connect() as other:
        other.exec_driver_sql(f"SELECT 1 FROM parcels WHERE id = {key} FOR UPDATE")

        claim_and_run(app)

        assert job_of(owner, Parcel, key).reason is None
        assert is_untouched(owner, Parcel, key, "packed")
    clock.advance(seconds=2)
    app.drain()
    assert state_of(owner, Parcel, key) == "sent"


@pytest.mark.parametrize(
    ("hiding", "left"), [*zip(HIDINGS, ["refused", "locked"], strict=True)], ids=NAMES
)
def test_a_person_who_does_not_see_a_record_deletes_no_job_that_it_may_wait_for(
    office, hiding, left
):
    owner, app = office
    keys = send(owner, 3)
    show(
        owner, **{name: condition.format(keys[1]) for name, condition in hiding.items()}
    )

    handled = app.select(key="parcel.send").delete()

    counts = {"refused": handled.refused_count, "locked": handled.locked}
    assert (handled.done, counts[left], handled.total) == (2, 1, 3)
    assert is_untouched(owner, Parcel, keys[1], "packed")
