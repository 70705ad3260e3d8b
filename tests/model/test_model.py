"""Users, two nodes, deaths and time, in any order: the engine agrees with a model on paper.

`STATEJOBS_MODEL_EXAMPLES` says how many stories are played, over both databases: 300 by default.
"""

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import StopTest
from hypothesis.stateful import run_state_machine_as_test

from tests.model.driver import model_engine
from tests.model.mutants import MUTANTS
from tests.model.rules import machine

EXAMPLES = int(os.environ.get("STATEJOBS_MODEL_EXAMPLES", "300"))
ENOUGH = 300
"""Stories in which a seeded fault has to show."""


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
def test_the_engine_agrees_with_the_model(engine):
    share = 2 / 3 if engine.dialect.name == "sqlite" else 1 / 3

    play(engine, max_examples=round(EXAMPLES * share))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_the_model_finds(sqlite_url, monkeypatch, mutant):
    engine = model_engine(sqlite_url)
    mutant(monkeypatch)

    with pytest.raises(Exception) as found:  # noqa: PT011 - whatever the fault leads to
        play(
            engine,
            max_examples=ENOUGH,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
        )

    assert not isinstance(found.value, StopTest)
    engine.dispose()
