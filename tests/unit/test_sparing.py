"""The log of a worker tells each cause once in a while, how often it came, and no values."""

import logging
import re
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

import statejobs
from statejobs.sparing import LOGGERS, WINDOW, sparing

log = logging.getLogger("statejobs.runner")


class Timers:
    """What is to be called later; the test calls it."""

    def __init__(self):
        self.waiting = []

    def __call__(self, seconds, act):
        self.waiting.append((seconds, act))
        return self

    def cancel(self):
        pass

    def end_the_window(self):
        waiting, self.waiting = self.waiting, []
        for _, act in waiting:
            act()


@pytest.fixture
def timers():
    return Timers()


@pytest.fixture
def told(caplog, timers):
    caplog.set_level(logging.DEBUG, "statejobs")
    with sparing(timers):
        yield lambda: [record.getMessage() for record in caplog.records]


def fail(number=1):
    try:
        raise ValueError(f"odd number {number}")
    except ValueError:
        log.exception("job %s could not be finished", number)


def test_a_flood_of_one_cause_is_one_line_and_a_count(told, timers):
    for number in range(50):
        log.warning("job %s: no outcome recorded: %s", number, OSError(f"no {number}"))

    assert told() == ["job 0: no outcome recorded: no 0"]
    timers.end_the_window()
    assert told()[1:] == [
        "job 49: no outcome recorded: no 49 (49 like this within 10 s, of which this is the last)"
    ]


def test_one_line_that_was_left_out_is_not_counted_as_a_flood(told, timers):
    for number in range(2):
        log.warning("job %s: no outcome recorded", number)

    timers.end_the_window()

    assert told()[1:] == [
        "job 1: no outcome recorded (the second like this within 10 s)"
    ]


def test_what_is_told_later_bears_the_time_at_which_it_is_told(told, timers, caplog):
    for number in range(3):
        log.warning("job %s", number)
    log.warning("something else")

    timers.end_the_window()

    times = [record.created for record in caplog.records]
    assert times == sorted(times)


def test_one_timer_serves_a_flood(told, timers):
    for number in range(9):
        log.warning("job %s", number)

    ((seconds, _),) = timers.waiting
    assert 0 < seconds <= WINDOW


def test_different_causes_are_told_apart(told):
    log.warning("job %s: %s", 1, OSError("x"))
    log.warning("job %s: %s", 1, KeyError("x"))
    log.error("job %s: %s", 1, OSError("x"))
    logging.getLogger("statejobs.worker").warning("job %s: %s", 1, OSError("x"))
    fail()
    try:
        raise ValueError("from another line")
    except ValueError:
        log.exception("job %s could not be finished", 2)

    assert len(told()) == 6


def test_the_traceback_of_a_cause_is_shown_once(told, timers, caplog):
    for number in range(3):
        fail(number)
    timers.end_the_window()

    first, last = caplog.records
    assert "odd number 0" in first.exc_text
    assert (last.exc_info, last.exc_text) == (None, None)


def test_what_was_left_out_is_told_at_the_end(caplog):
    timers = Timers()
    with sparing(timers):
        log.warning("again")
        log.warning("again")

    assert len(caplog.records) == 2
    log.warning("again")
    log.warning("again")
    assert len(caplog.records) == 4  # nobody spares any more


def test_lines_for_the_curious_are_not_counted(told):
    for _ in range(3):
        log.debug("a detail")
        log.info("a fact")

    assert len(told()) == 6


def test_every_logger_of_the_engine_is_spared():
    package = Path(statejobs.__file__).parent
    engine = [path for path in package.rglob("*.py") if "cli" not in path.parts]
    named = {
        name
        for path in engine
        for name in re.findall(r'getLogger\("([^"]+)"\)', path.read_text())
    }

    # each line is wanted
    whole = {
        "statejobs.action",
        "statejobs.jobs",
        "statejobs.supervisor",
    }
    assert named - whole == set(LOGGERS)


def test_an_error_of_the_database_shows_no_parameters_and_no_statement(told, caplog):
    engine = create_engine("sqlite://")
    given = {"a": f"s{3}cret"}
    with engine.connect() as connection, pytest.raises(OperationalError) as raised:
        connection.execute(text("SELECT * FROM nowhere WHERE a = :a"), given)
    log.warning("cannot look: %s", raised.value)
    log.error("cannot look", exc_info=raised.value)

    assert told()[0] == "cannot look: (sqlite3.OperationalError) no such table: nowhere"
    assert "s3cret" not in caplog.text
    assert "no such table" in caplog.records[1].exc_text
