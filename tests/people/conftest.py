"""Fixtures of the tests of people: apps whose clock the test holds."""

import pytest

from tests.support.clock import ManualClock
from tests.support.errands import household
from tests.support.errands import reset as reset_errands
from tests.support.parcels import contradictions, post_office, reset_script


@pytest.fixture
def clock():
    """The clock of every app of the test."""
    return ManualClock()


@pytest.fixture
def app(database_url, clock):
    """Parcels, letters and messages; at the end record, job and history must agree."""
    with post_office(database_url, clock=clock) as opened:
        yield opened
        assert contradictions(opened) == []


@pytest.fixture
def home(database_url, clock):
    """Errands and parcels."""
    with household(database_url, clock=clock) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _forget_scripts():
    yield
    reset_script()
    reset_errands()
