"""A service runs time and again, by the clock that it was given, whatever a round of it raises."""

import sqlite3
import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy.exc import OperationalError

from statejobs.runner.services import Loop, Service
from tests.support.clock import ManualClock, manual_sources

EVERY = timedelta(seconds=10)
LOCKED = sqlite3.OperationalError("database is locked")
LOCKED.sqlite_errorcode = sqlite3.SQLITE_BUSY


class Rounds:
    """Rounds that end as a test says: an exception is raised, anything else returned."""

    def __init__(self, *ends):
        self.ends, self.count = list(ends), 0

    def __call__(self):
        self.count += 1
        end = self.ends.pop(0) if self.ends else None
        if isinstance(end, BaseException):
            raise end
        return end


def loop_of(run_once, *, every=EVERY, sources=None, **options):
    service = Service("census", run_once, every, **options)
    return Loop(service, sources or manual_sources(ManualClock()))


def broken(words="broken"):
    """An error as a line of code raises it."""
    return ValueError(words)


@pytest.mark.parametrize(
    ("end", "least", "most"),
    [
        (None, 9, 11),
        (True, 9, 11),
        (7, 9, 11),
        (False, 0.9, 1.1),
        (timedelta(seconds=0.3), 0.3, 0.3),
        (broken(), 9, 11),
        (OperationalError("SELECT 1", {}, LOCKED), 0.9, 1.1),
    ],
    ids=["none", "true", "a number", "false", "a time", "an error", "one that passes"],
)
def test_what_a_round_comes_to_says_when_the_next_is_due(end, least, most):
    assert least <= loop_of(Rounds(end)).round() <= most


def test_an_interval_beyond_all_calendars_is_ten_years():
    loop = loop_of(Rounds(), every=timedelta.max)

    assert loop.round() < threading.TIMEOUT_MAX


def test_an_error_is_told_once_and_its_end_too(caplog):
    ends = [broken(), broken("again"), broken(), None, None, broken()]
    loop = loop_of(Rounds(*ends))

    for _ in ends:
        loop.round()

    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("ERROR", "statejobs-census failed"),
        ("WARNING", "statejobs-census goes well again"),
        ("ERROR", "statejobs-census failed"),
    ]


def test_another_error_is_told_as_well(caplog):
    loop = loop_of(Rounds(broken(), KeyError("x"), broken()))

    for _ in range(3):
        loop.round()

    assert len(caplog.records) == 3


def test_what_passes_by_itself_is_told_by_who_claims(caplog):
    loop = loop_of(Rounds(OperationalError("SELECT 1", {}, LOCKED)))

    loop.round()

    assert caplog.messages == []


def stepped(clock, *, until):
    """Sources whose waits move *clock*, and end *until* is due without a moment gone."""

    def wait(awaited, seconds):
        if clock.monotonic() + seconds > until:
            awaited.set()
            ended.set()
            return True
        clock.advance(seconds=seconds)
        return awaited.is_set()

    ended = threading.Event()
    return replace(manual_sources(clock), wait=wait), ended


def test_whoever_waits_for_it_steps_its_time():
    clock = ManualClock()
    began, at = clock.monotonic(), []
    sources, ended = stepped(clock, until=began + 100)

    def note():
        at.append(clock.monotonic() - began)
        if at[-1] > 60:
            raise broken()
        return timedelta(seconds=20)

    loop = loop_of(note, sources=sources, on_error=lambda _error: 1000.0)
    loop.start()
    assert ended.wait(60)
    loop.stop()

    first = at[0]
    assert 9 <= first <= 11
    assert at == pytest.approx([first, first + 20, first + 40, first + 60])


def test_news_brings_the_next_round_but_none_after_an_error():
    waits, news = [], threading.Event()

    def wait(awaited, _seconds):
        waits.append(awaited is news)
        if len(waits) == 3:
            loop.end()
        return True

    sources = replace(manual_sources(ManualClock()), wait=wait)
    rounds = Rounds(None, broken())
    loop = loop_of(rounds, sources=sources, news=news, on_error=lambda _error: 5.0)
    loop.start()
    loop.join(60)

    assert waits == [True, True, False]
    assert rounds.count == 2
