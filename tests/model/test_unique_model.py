"""Requests, workers, people and time, in any order: `Unique` tasks agree with a model on paper."""

import json
import os
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import StopTest
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete, select

from statejobs import (
    Cancel,
    Domain,
    DuplicateJobError,
    Retention,
    StateJobs,
    StateJobsError,
    Unique,
    task,
)
from statejobs.store import enqueue_unique
from statejobs.store.staging import stage_due
from statejobs.store.tables import attempts, jobs
from tests.model.driver import model_engine
from tests.model.unique_model import (
    ALLOWANCE,
    BACKOFF,
    PERIOD,
    RULES,
    UniqueModel,
)
from tests.support.clock import NOON, ManualClock, manual_sources

EXAMPLES = int(os.environ.get("STATEJOBS_MODEL_EXAMPLES", "300")) // 3
script = []
"""How the next attempt ends."""


def declare(key, options):
    """A task of the model, which ends as the script says."""
    options = {**options, "by": ["customer"]}
    if "period" in options:
        options["period"] = timedelta(seconds=options["period"])
    wait = timedelta(seconds=BACKOFF)

    @task(key, unique=Unique(**options), max_attempts=ALLOWANCE, backoff=wait)
    def run(customer: int, item: int) -> None:
        match script.pop():
            case "fail":
                raise ValueError("no luck")
            case "cancel":
                raise Cancel("never")

    return run


TASKS = {key: declare(key, options) for key, options in RULES.items()}

tasks = st.sampled_from(sorted(TASKS))
customers = st.sampled_from([1, 1, 1, 2])
items = st.integers(0, 2)
delays = st.sampled_from([0, 0, 30])
calls = st.lists(st.tuples(customers, items), min_size=1, max_size=4)
picks = st.integers(0, 9)


def machine(engine):  # noqa: C901 - the rules are one class, made for a database
    """Return the rules, bound to a database with the tables."""

    class UniqueAgainstModel(RuleBasedStateMachine):
        def __init__(self):
            super().__init__()
            with engine.begin() as connection:
                connection.execute(delete(attempts))
                connection.execute(delete(jobs))
            self.clock, self.model, self.claims = ManualClock(), UniqueModel(), []
            self.app = StateJobs(
                engine,
                domains=[Domain("model", tasks=list(TASKS.values()))],
                sources=manual_sources(self.clock),
                retention=Retention(
                    completed=timedelta(0), cancelled=None, discarded=None, history=None
                ),
            )
            self.runner = self.app.runner()

        @rule(call=st.tuples(customers, items), delay=delays)
        def ask_for_each(self, call, delay):
            for key in TASKS:
                self.ask_many(key, [call], delay, is_kept=True)

        @rule(key=tasks, many=calls, delay=delays, is_kept=st.booleans())
        def ask_many(self, key, many, delay, is_kept):
            asked = TASKS[key].options(delay=timedelta(seconds=delay))
            given = [{"customer": c, "item": i} for c, i in many]
            is_raising = RULES[key].get("on_conflict") == "raise"
            if is_raising and len({c for c, _ in many}) < len(many):
                return  # refused before anything is asked
            with self.app.session() as session:
                try:
                    told = [
                        (result.outcome.value, result.job_id)
                        for result in asked.enqueue_many(session, given)
                    ]
                except DuplicateJobError as error:
                    self.agree_on_refusal(key, many, error)
                    session.commit()
                    return
                session.commit() if is_kept else session.rollback()
            if is_kept:
                self.agree_on_answers(key, many, delay, told)

        def agree_on_refusal(self, key, many, error):
            """One of them is held, and nothing else has changed."""
            holders = [self.model.holder(key, customer) for customer, _ in many]
            live = {
                found[0]: found[1].state
                for found in holders
                if found is not None and found[1].state in LIVE
            }
            assert live.get(error.job_id) == error.state

        def agree_on_answers(self, key, many, delay, told):
            for (customer, item), (outcome, job_id) in zip(many, told, strict=True):
                said, served_by = self.model.request(key, customer, item, delay)
                assert (outcome, job_id) == (said, served_by or job_id)
                if served_by is None:
                    self.model.insert(job_id, key, customer, item, delay)

        @rule(limit=st.integers(1, 3))
        def claim(self, limit):
            claims = self.runner.claim("default", limit=limit)
            self.claims += claims
            for claim in claims:
                self.model.claim(claim.job.id)

        @rule(pick=picks, outcome=st.sampled_from(["complete", "fail", "cancel"]))
        def finish(self, pick, outcome):
            if not self.claims:
                return
            claim = self.claims.pop(pick % len(self.claims))
            script[:] = [outcome]
            self.runner.run(claim)
            self.model.finish(claim.job.id, outcome)

        @rule()
        def run_all(self):
            while self.model.has_queued():
                self.claim(10)
            while self.claims:
                self.finish(0, "complete")

        @rule(seconds=st.sampled_from([1, 20, PERIOD - 1, PERIOD]))
        def pass_time(self, seconds):
            self.clock.advance(seconds=seconds)
            self.model.now += seconds
            stage_due(self.app.store, ["default"], list(TASKS), self.clock.now())
            self.model.stage()

        @rule(pick=picks)
        def cancel_by_hand(self, pick):
            self.by_hand(self.app.cancel_job, self.model.cancel, pick, reason="enough")

        @rule(pick=picks)
        def retry_by_hand(self, pick):
            self.by_hand(self.app.retry_job, self.model.retry, pick)

        def by_hand(self, act, on_paper, pick, **options):
            ids = [n for n, r in self.model.rows.items() if r.state != "processing"]
            if not ids:
                return
            job_id = ids[pick % len(ids)]
            try:
                act(job_id, **options)
            except StateJobsError:
                assert not on_paper(job_id)
            else:
                assert on_paper(job_id)

        @rule()
        def prune(self):
            self.pass_time(1)  # what has just ended is not old
            self.app.prune()
            self.model.prune()

        @invariant()
        def agree(self):
            assert look(self.app) == self.model.look()

        @invariant()
        def one_has_the_key(self):
            held = [(r.task, r.customer) for r in self.model.rows.values() if r.holds]
            assert len(held) == len(set(held))

    return UniqueAgainstModel


LIVE = {"scheduled", "queued", "failed", "processing"}


def look(app):
    """What the database says, in the words of `UniqueModel.look`."""
    with app.store.single() as connection:
        rows = connection.execute(select(jobs).order_by(jobs.c.id)).all()
    return {row.id: _look_at(row) for row in rows}


def _look_at(row):
    return {
        "task": row.key,
        "item": json.loads(row.args)["item"],
        "state": row.state,
        "has_key": row.dedupe_key is not None,
        "until": _seconds(row.unique_until),
        "attempt": row.attempt,
        "most": row.max_attempts,
        "again": row.run_again,
        "due": _seconds(row.run_at) if row.state in {"scheduled", "failed"} else None,
    }


def _seconds(time):
    return None if time is None else (time - NOON).total_seconds()


def play(engine, **options):
    run_state_machine_as_test(
        machine(engine),
        settings=settings(
            deadline=None,
            print_blob=True,
            report_multiple_bugs=False,
            stateful_step_count=30,
            suppress_health_check=list(HealthCheck),
            **options,
        ),
    )


@pytest.fixture
def engine(database_url):
    opened = model_engine(database_url)
    yield opened
    opened.dispose()


@pytest.mark.timeout(300 + 5 * EXAMPLES)
def test_unique_tasks_agree_with_the_model(engine):
    share = 2 / 3 if engine.dialect.name == "sqlite" else 1 / 3

    play(engine, max_examples=round(EXAMPLES * share))


def what_completed_is_a_duplicate_for_ever(patch):
    real = enqueue_unique.is_duplicate

    def is_duplicate(unique, state, **options):
        return state == "completed" or real(unique, state, **options)

    patch.setattr(enqueue_unique, "is_duplicate", is_duplicate)


def what_gave_up_keeps_its_key(patch):
    real = enqueue_unique.is_duplicate

    def is_duplicate(unique, state, **options):
        return state == "cancelled" or real(unique, state, **options)

    patch.setattr(enqueue_unique, "is_duplicate", is_duplicate)


def a_period_that_ends_early(patch):
    real = enqueue_unique.is_duplicate

    def is_duplicate(unique, state, *, until, now):
        return real(unique, state, until=until, now=now + timedelta(seconds=30))

    patch.setattr(enqueue_unique, "is_duplicate", is_duplicate)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "mutant",
    [
        what_completed_is_a_duplicate_for_ever,
        what_gave_up_keeps_its_key,
        a_period_that_ends_early,
    ],
    ids=lambda mutant: mutant.__name__,
)
def test_the_model_finds(sqlite_url, monkeypatch, mutant):
    engine = model_engine(sqlite_url)
    mutant(monkeypatch)

    with pytest.raises(Exception) as found:  # noqa: PT011 - whatever the fault leads to
        play(
            engine,
            max_examples=150,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
        )

    assert not isinstance(found.value, StopTest)
    engine.dispose()
