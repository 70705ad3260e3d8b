"""An atomic action sees its record as it is under its lock, not as it was claimed."""

from collections import deque
from functools import partial

import pytest
from sqlalchemy import Engine, event

from statejobs.runner.calls import calls_of, pop_call
from tests.support.forms import Atomic, AwaitedAtomic, office, script
from tests.support.parcels import (
    enqueue,
    job_of,
    load,
    run_async,
    run_together,
    state_of,
)

KINDS = [Atomic, AwaitedAtomic]


@pytest.fixture
def app(database_url):
    with office(database_url, resources=KINDS) as opened:
        yield opened


@pytest.fixture(params=KINDS, ids=["def", "async"])
def kind(request):
    return request.param


def adds_one(records, _session, _ctx):
    for record in records:
        record.n += 1


def run(app, claim):
    if claim.policy.is_async:
        return run_async(app, claim)
    return app.runner().run(claim)


def run_as_batch(app, claims):
    call = pop_call(deque(calls_of(claims)), most=100)
    assert len(call) == len(claims)
    return run_together(app.runner(), call)


def set_by_a_user(app, kind, keys, n):
    with app.session() as session:
        for key in keys:
            session.get_one(kind, key).n = n
        session.commit()


def test_what_a_user_wrote_between_claim_and_body_is_seen(app, kind):
    script.body = adds_one
    (key,) = enqueue(app, kind, "act")
    (claim,) = app.runner().claim("default", limit=1)
    set_by_a_user(app, kind, [key], 10)

    assert run(app, claim).outcome == "complete"
    assert load(app, kind, key).n == 11


def test_what_users_wrote_is_seen_in_a_batch(app):
    script.body = adds_one
    keys = enqueue(app, Atomic, "act", 3)
    claims = app.runner().claim("default", limit=3)
    set_by_a_user(app, Atomic, keys[:2], 10)

    ended = run_as_batch(app, claims)

    assert [one.outcome for one in ended] == ["complete"] * 3
    assert [load(app, Atomic, key).n for key in keys] == [11, 11, 1]


def test_a_batch_loads_its_records_with_one_statement(app):
    keys = enqueue(app, Atomic, "act", 5)
    claims = app.runner().claim("default", limit=5)
    sent = []
    event.listen(app.engine, "before_cursor_execute", lambda *a: sent.append(a[2]))

    run_as_batch(app, claims)

    assert (
        sum(text.startswith("SELECT") and "FROM atomics" in text for text in sent) == 1
    )
    assert {state_of(app, Atomic, key) for key in keys} == {"done"}


def _note_statement(sent, *event):
    sent.append(event[2])


def test_it_locks_and_loads_with_one_statement(app, kind):
    enqueue(app, kind, "act")
    (claim,) = app.runner().claim("default", limit=1)
    sent = []
    note = partial(_note_statement, sent)
    event.listen(Engine, "before_cursor_execute", note)

    run(app, claim)

    event.remove(Engine, "before_cursor_execute", note)

    table = kind.__table__.name
    assert (
        sum(text.startswith("SELECT") and f"FROM {table}" in text for text in sent) <= 1
    )


@pytest.mark.parametrize("batch", [False, True], ids=["alone", "in a batch"])
def test_a_record_that_was_moved_away_runs_nothing(app, batch):
    ran = []
    script.body = lambda records, _session, _ctx: ran.extend(
        record.id for record in records
    )
    keys = enqueue(app, Atomic, "act", 2)
    claims = app.runner().claim("default", limit=2)
    with app.session() as session:
        session.get_one(Atomic, keys[0]).stop()
        session.commit()

    ended = (
        run_as_batch(app, claims) if batch else [run(app, claim) for claim in claims]
    )

    assert [one.outcome for one in ended] == ["cancel", "complete"]
    assert ran == [keys[1]]
    assert (
        job_of(app, Atomic, keys[0]).reason
        == "superseded: the record was moved to 'stopped'"
    )


def test_a_record_that_is_gone_runs_nothing(app, kind):
    (key,) = enqueue(app, kind, "act")
    (claim,) = app.runner().claim("default", limit=1)
    with app.engine.begin() as connection:
        connection.execute(kind.__table__.delete())

    assert run(app, claim).outcome == "cancel"
    assert job_of(app, kind, key).reason == "superseded: the record is gone"


def test_a_state_that_this_code_does_not_know_is_a_move_away(app, kind, mending):
    (key,) = enqueue(app, kind, "act")
    (claim,) = app.runner().claim("default", limit=1)
    table = kind.__table__
    mend = mending(f"UPDATE {table} SET state = 'stopped' WHERE state = 'new-in-v2'")
    with app.engine.begin() as connection:
        for constraint in [c for c in table.constraints if "state" in str(c.name)]:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(
                    f"ALTER TABLE {table} DROP CONSTRAINT {constraint.name}"
                )
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
        connection.exec_driver_sql(f"UPDATE {table} SET state = 'new-in-v2'")
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA ignore_check_constraints = OFF")

    assert run(app, claim).outcome == "cancel"
    assert (
        job_of(app, kind, key).reason
        == "superseded: the record was moved to 'new-in-v2'"
    )
    mend()
