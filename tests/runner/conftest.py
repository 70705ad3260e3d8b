"""Fixtures of the tests of the runner: an app whose clock, ids and chance the test holds."""

import contextlib
from contextlib import ExitStack

import pytest
from sqlalchemy.exc import DBAPIError

from tests.support.clock import ManualClock
from tests.support.hostile import execute
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


@pytest.fixture
def mending(app):
    """`mend = mending(sql)`, before the damage that *sql* mends; the rest is mended at the end.

    Else nobody could read what record, job and history say after a test that ended early.
    """

    def promise(statement):
        def mend():
            execute(app, statement)
            is_mended.append(True)

        def mend_late():
            if not is_mended:
                with contextlib.suppress(
                    DBAPIError
                ):  # nothing was damaged, or mended without word
                    execute(app, statement)

        is_mended = []
        late.callback(mend_late)
        return mend

    with ExitStack() as late:
        yield promise


@pytest.fixture(autouse=True)
def _forget_script():
    yield
    reset_script()
