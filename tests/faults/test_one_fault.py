"""One statement fails, at the worst place; the attempt ends as it should nevertheless."""

import gc
from contextlib import suppress
from dataclasses import replace

import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import OperationalError

from tests.faults.flow import office
from tests.support.faulty_dbapi import Planned
from tests.support.rounds import Effect

KEYS = {"own": 6, "write": 1, "fail": 2}
"""Errands by what they do."""


@pytest.fixture
def faults():
    return Planned()


@pytest.fixture
def without_gc():
    """Nothing is tidied up behind our back."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def opened(database_url, faults):
    with office(database_url, faults) as opened:
        yield opened


def claim(opened, does):
    opened.keys = [KEYS[does]]
    opened.insist(lambda session: opened._create(session, KEYS[does]))
    opened.insist(lambda session: opened._submit(session, KEYS[does]))
    runner = opened.app.runner()
    (claim,) = runner.claim("work", limit=1)
    return runner, claim


@pytest.mark.parametrize(("kind", "is_kept"), [("before", False), ("after", True)])
def test_a_lost_answer_differs_from_a_lost_commit(opened, faults, kind, is_kept):
    faults.plan["COMMIT"] = [kind]

    with (
        pytest.raises(OperationalError, match="injected"),
        opened.app.engine.begin() as connection,
    ):
        connection.execute(insert(Effect).values(of="errand 1"))

    with opened.sound.engine.connect() as connection:
        assert bool(connection.execute(select(Effect)).all()) == is_kept


@pytest.mark.parametrize("kind", ["before", "after"])
@pytest.mark.parametrize("word", ["SELECT", "UPDATE"])
def test_a_rollback_that_failed_leaves_no_connection_behind(
    opened, faults, without_gc, word, kind
):
    opened.insist(lambda session: opened._create(session, 1))
    faults.plan = {word: [kind], "ROLLBACK": [kind, kind]}
    with pytest.raises(OperationalError), opened.app.session() as session:
        opened._submit(session, 1)
        session.commit()

    assert opened.app.engine.pool.checkedout() == 0
    with opened.sound.engine.begin() as connection:
        connection.execute(insert(Effect).values(of="somebody else writes"))


def test_a_commit_that_failed_is_not_made_up_for_by_the_next(opened, faults):
    faults.plan["COMMIT"] = ["before"]
    for number in (1, 2):
        with suppress(OperationalError), opened.app.engine.begin() as connection:
            connection.execute(insert(Effect).values(of=f"errand {number}"))

    with opened.sound.engine.connect() as connection:
        assert connection.scalars(select(Effect.of)).all() == ["errand 2"]


def test_a_connection_that_cannot_roll_back_is_closed(opened, faults):
    size = opened.app.engine.pool.size() + opened.app.engine.pool._max_overflow
    for number in range(size + 1):  # none may be lost to the pool
        faults.plan |= {"COMMIT": ["before"], "ROLLBACK": ["before"] * 3}
        with (
            pytest.raises(OperationalError, match="injected"),
            opened.app.engine.begin() as connection,
        ):
            connection.execute(insert(Effect).values(of=f"errand {number}"))
    faults.plan.clear()

    with opened.app.engine.begin() as connection:
        assert connection.execute(select(Effect)).all() == []


@pytest.mark.parametrize("does", ["own", "write"])
def test_a_finish_whose_answer_was_lost_is_not_done_again(opened, faults, does):
    runner, claimed = claim(opened, does)
    is_fused = does == "own" and opened.app.store.has_arrays
    faults.plan["WITH" if is_fused else "COMMIT"] = ["after"]

    ended = runner.run(claimed)

    assert ended.outcome == "complete"
    assert opened.sound.queries.job(claimed.job.id).state == "completed"
    assert opened.problems() == []


@pytest.mark.parametrize("does", ["own", "write"])
def test_a_finish_that_was_not_committed_costs_no_attempt(opened, faults, does):
    runner, claimed = claim(opened, does)
    is_fused = does == "own" and opened.app.store.has_arrays
    faults.plan["WITH" if is_fused else "COMMIT"] = ["before"]

    ended = runner.run(claimed)

    repeats = does == "own"  # what it changes is known; else the body must run again
    assert ended.outcome == ("complete" if repeats else "give_back")
    assert opened.sound.queries.job(claimed.job.id).attempt == (1 if repeats else 0)
    assert opened.sound.queries.attempts(claimed.job.id) == []


@pytest.mark.parametrize("fails", [["after"], ["after", "before", "before"]])
def test_a_claim_whose_answer_was_lost_costs_no_attempt(opened, faults, fails):
    """The database is there at once; or gone for as long as the worker tries to make up for it."""
    runner, claimed = claim(opened, "own")
    runner.finisher.release(claimed)
    faults.plan["COMMIT"] = list(fails)

    with pytest.raises(OperationalError, match="injected"):
        runner.claim("work", limit=1)
    faults.plan.clear()
    runner.claim("work", limit=1)

    job = opened.sound.queries.job(claimed.job.id)
    assert (job.state, job.attempt, job.crashes, job.returned) == ("scheduled", 0, 0, 1)
    assert opened.problems()[-1].endswith("is scheduled")


def test_a_rollback_that_fails_does_not_lose_the_failure(opened, faults, monkeypatch):
    runner, claimed = claim(opened, "fail")
    bound = claimed.subject.bound
    body = bound.action.body

    def write_and_fail(errand, ctx):
        ctx.session.add(Effect(of=f"errand {errand.id}"))
        ctx.session.flush()
        faults.plan["ROLLBACK"] = ["before"]
        body(errand, ctx)

    action = replace(bound.action, body=write_and_fail)
    monkeypatch.setattr(claimed.subject, "bound", replace(bound, action=action))

    ended = runner.run(claimed)

    assert ended.outcome == "fail"
    (attempt,) = opened.sound.queries.attempts(claimed.job.id)
    assert attempt["error_type"] == "ValueError"
