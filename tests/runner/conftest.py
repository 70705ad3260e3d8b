"""Fixtures of the tests of the runner: an app whose clock, ids and chance the test holds."""

import pytest

from tests.support.clock import ManualClock
from tests.support.parcels import contradictions, post_office, reset_script


@pytest.fixture
def clock():
    """The clock of every app of the test."""
    return ManualClock()


@pytest.fixture
def app(database_url, clock):
    """An app on a fresh database; at the end record, job and history must agree."""
    with post_office(database_url, clock=clock) as opened:
        yield opened
        assert contradictions(opened) == []


@pytest.fixture(autouse=True)
def _forget_script():
    yield
    reset_script()
