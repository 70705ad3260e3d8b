"""Statements, commits and answers are lost by chance; nothing else is, and nothing is doubled.

`STATEJOBS_FAULTS` says how many errands each story has: 24 by default.
"""

import os
import time

import pytest
from sqlalchemy.exc import SQLAlchemyError

from tests.faults.flow import LEASE, office
from tests.support.clock import ManualClock, manual_sources
from tests.support.faulty_dbapi import Faults

NUMBER = int(os.environ.get("STATEJOBS_FAULTS", "24"))
RATES = [0.01, 0.05]


@pytest.mark.timeout(600 + 4 * NUMBER)
@pytest.mark.parametrize("rate", RATES)
def test_a_drain_brings_everything_to_its_end(database_url, seed, rate):
    clock, faults = ManualClock(), Faults(seed, rate=rate, hang=0)
    with office(
        database_url, faults, sources=manual_sources(clock, seed=seed)
    ) as opened:
        runner = opened.app.runner()
        faults.on = True

        opened.send(NUMBER)
        while opened.unfinished():
            for work in (opened.app.drain, runner.rescue):
                try:
                    work()
                except SQLAlchemyError:
                    continue  # as a loop of a program would
            opened.mend()
            clock.advance(LEASE * 1.1)

        assert opened.problems() == []
        assert faults.counts


@pytest.mark.timeout(600 + 4 * NUMBER)
@pytest.mark.parametrize("rate", RATES)
def test_a_worker_brings_everything_to_its_end(database_url, seed, rate):
    faults = Faults(seed, rate=rate)
    with office(database_url, faults) as opened:
        faults.on = True
        give_up_at = time.monotonic() + 60 + 2 * NUMBER

        opened.send(NUMBER)
        while opened.unfinished():
            assert time.monotonic() < give_up_at, opened.problems()
            serve_for_a_while(opened)

        assert opened.problems() == []
        assert faults.counts


def serve_for_a_while(opened):
    """Start a worker, retry what was cancelled, and stop it; whoever embeds it tries again."""
    until = time.monotonic() + 3
    try:
        with opened.app.running():
            while opened.unfinished() and time.monotonic() < until:
                opened.mend()
                time.sleep(0.05)  # noqa: TID251 - the worker needs its time
    except SQLAlchemyError:
        pass  # it could not start
