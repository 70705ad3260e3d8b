"""Store operations in any order agree with a model of a few lines."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import delete

from statejobs import JobState
from statejobs.domain.outcome import Cancel, Complete, Crash, Release, Snooze
from statejobs.store.factory import open_engine
from statejobs.store.schema import create_tables
from statejobs.store.store import JobQueries, Store
from statejobs.store.tables import jobs as table
from tests.store.test_conformance import LATER, NEW, NOW, claim, finish, put, replace
from tests.unit.domain.test_lifecycle import FAILED, settled

OUTCOMES = [Complete(), FAILED, Snooze(minutes=1), Cancel("no"), Crash(), Release()]
WAITING = {"queued", "scheduled", "failed"}


def machine(store):  # noqa: C901 - the rules are one class, made for a store
    class StoreAgainstModel(RuleBasedStateMachine):
        def __init__(self):
            super().__init__()
            with store.transaction() as connection:
                connection.execute(delete(table))
            self.open = {}  # dedupe key -> [state, attempt, run again]
            self.held = []
            self.completed = 0
            self.tokens = 0

        @rule(key=st.sampled_from("abc"))
        def enqueue(self, key):
            put(store, replace(NEW, dedupe_key=key))
            state, attempt, _ = self.open.get(key, ["", 0, False])
            if state == "processing":
                self.open[key][2] = True
            else:
                self.open[key] = ["queued", 0 if state in WAITING else attempt, False]

        @rule(limit=st.integers(1, 3))
        def claim(self, limit):
            self.tokens += 1
            for job in claim(store, limit=limit, token=f"t{self.tokens}"):
                model = self.open[job.dedupe_key]
                assert model[0] == "queued"
                model[:2] = ["processing", model[1] + 1]
                assert job.attempt == model[1]
                self.held.append(job)

        @rule(outcome=st.sampled_from(OUTCOMES), rests=st.booleans(), pick=st.integers(0, 9))
        def finish(self, outcome, rests, pick):
            if not self.held:
                return
            job = self.held.pop(pick % len(self.held))
            decided = settled(job, outcome)
            state = finish(store, job, decided, rests=rests)
            assert finish(store, job, decided, rests=rests) is None
            model = self.open[job.dedupe_key]
            if model[2] and rests:
                self.open[job.dedupe_key] = ["queued", 0, False]
            elif decided.state is JobState.COMPLETED:
                del self.open[job.dedupe_key]
                self.completed += 1
            else:
                self.open[job.dedupe_key] = [decided.state.value, decided.attempt, False]
            assert state == self.open.get(job.dedupe_key, ["completed"])[0]

        @rule()
        def stage(self):
            store.stage_due(LATER)
            for model in self.open.values():
                if model[0] in {"scheduled", "failed"}:
                    model[0] = "queued"

        @rule(key=st.sampled_from("abc"))
        def cancel(self, key):
            found = [j for j in JobQueries(store.engine).jobs() if j.dedupe_key == key]
            for job in found[:1]:
                with store.transaction() as connection:
                    done = store.cancel_waiting(connection, job.id, "no", NOW)
                assert done == (job.state.value in WAITING)
                if done:
                    self.open[key][0] = "cancelled"

        @invariant()
        def agree(self):
            rows = JobQueries(store.engine).jobs(limit=1000)
            still = {
                j.dedupe_key: [j.state.value, j.attempt, j.run_again]
                for j in rows
                if j.state is not JobState.COMPLETED
            }
            assert still == self.open
            assert sum(j.state is JobState.COMPLETED for j in rows) == self.completed

    return StoreAgainstModel


@pytest.mark.timeout(180)
def test_store_operations_agree_with_the_model(database_url):
    engine = open_engine(database_url)
    create_tables(engine)
    examples = 60 if engine.dialect.name == "sqlite" else 20

    run_state_machine_as_test(
        machine(Store(engine)),
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    engine.dispose()
