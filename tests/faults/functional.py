"""The functional suite on a database that fails by chance: a plugin of pytest.

    pytest -p tests.faults.functional --fault-rate 0.03 tests/runner

Every app that a test opens loses statements, commits and answers while the test itself runs, not
while its fixtures do. A test then sees other outcomes than those that it asserts, so what it
asserts says nothing. What it must not see says something:

- what reaches a caller is an error of the database, or one of ours: nothing else breaks;
- nothing hangs, and every connection is back in its pool;
- record, job and history agree afterwards, as the fixtures of the suite check for every test.
"""

import gc
import random
import secrets
import sys
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import PendingRollbackError, SQLAlchemyError

import statejobs
from statejobs import StateJobsError, app
from statejobs.store.engines import factory
from tests.support.faulty_dbapi import Faults, faulty_engine

OURS = Path(statejobs.__file__).parent
TESTS = Path(__file__).parents[1]
_DEAD_THREAD = "pytest.PytestUnhandledThreadExceptionWarning"


def pytest_addoption(parser):
    group = parser.getgroup("faults")
    group.addoption(
        "--fault-rate", type=float, default=0.03, help="part of the calls that fail"
    )
    group.addoption("--fault-seed", type=int, default=None, help="repeats a run")


def pytest_configure(config):
    config.pluginmanager.register(Suite(config), "statejobs-faults")


class Suite:
    """Puts a bad database under the tests of one process."""

    def __init__(self, config):
        shared = getattr(config, "workerinput", {}).get("fault_seed")
        asked = config.getoption("--fault-seed")
        self.seed = next(
            seed for seed in (shared, asked, secrets.randbits(32)) if seed is not None
        )
        self.faults = Faults(
            self.seed, rate=config.getoption("--fault-rate"), hang=0.01
        )
        self.engines, self.counts = [], Counter()
        self.missed = 0
        """How many tests ended otherwise than they assert."""
        self._open = factory.open_engine
        factory.open_engine = app.open_engine = self.open_engine

    def open_engine(self, database, **options):
        """Open an engine whose connections fail."""
        if isinstance(database, Engine | Connection):  # opened by the test
            return self._open(database, **options)
        self._open(database, **options).dispose()  # refuses what cannot be opened
        engine = faulty_engine(database, self.faults)
        self.engines.append(engine)
        return engine

    def pytest_configure_node(self, node):
        node.workerinput["fault_seed"] = self.seed

    def pytest_report_header(self):
        return f"faults: repeat with --fault-seed {self.seed}"

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items):
        """Leave out what draws examples until one fails, since here every one may.

        And what works on one connection of the test, which nobody can open again.
        """
        items[:] = [
            item
            for item in items
            if not hasattr(item.obj, "hypothesis")
            and not item.path.name.startswith("test_bound")
        ]
        for item in items:  # a thread of a test may die of a fault
            item.add_marker(pytest.mark.filterwarnings(f"ignore::{_DEAD_THREAD}"))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        self.faults.reseed(random.Random(f"{self.seed} {item.nodeid}"))
        self.faults.on = True
        try:
            yield
        except pytest.skip.Exception:
            raise
        except BaseException as error:
            if not may_be_seen(error):
                raise
            self.missed += 1
        finally:
            self.faults.on = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self):
        """Look while every app is still open."""
        sys.last_exc = sys.last_value = sys.last_traceback = None  # pytest keeps them
        gc.collect()  # a session that could not roll back goes with the error that told so
        engines, self.engines = self.engines, []
        counts, self.faults.counts = self.faults.counts, Counter()
        self.counts += counts
        refused = {what for _kind, what in counts}
        held = [
            engine.pool.status()
            for engine in engines
            # SQLAlchemy lets go of the connection of a user's session only when it rolls back;
            # on PostgreSQL the connection is lost with it.
            if engine.pool.checkedout()
            and not (engine.dialect.name == "sqlite" and "ROLLBACK" in refused)
        ]
        assert held == []

    def pytest_terminal_summary(self, terminalreporter):
        told = f"repeat with --fault-seed {self.seed}"
        if self.counts:  # with xdist its workers have them
            told += f": {self.counts.total()} faults"
            told += f", {self.missed} tests ended otherwise than they assert"
        terminalreporter.write_line(told)


def may_be_seen(error):
    """Return whether a test may see *error* on a database that fails."""
    if isinstance(error, SQLAlchemyError):
        is_injected = any("injected" in str(one) for one in chain(error))
        return is_injected or isinstance(error, PendingRollbackError)
    return isinstance(error, StateJobsError) or not was_raised_by_us(error)


def chain(error):
    """Yield *error*, and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def was_raised_by_us(error):
    """Return whether code of statejobs raised *error*, rather than the test itself."""
    trace, is_ours = error.__traceback__, False
    while trace is not None:
        path = Path(trace.tb_frame.f_code.co_filename)
        if path.is_relative_to(OURS):
            is_ours = True
        elif path.is_relative_to(TESTS):
            is_ours = False
        trace = trace.tb_next
    return is_ours
