"""Keeps the log short: one line for each cause in ten seconds, and one traceback; no values.

Installed while a worker runs, on the loggers of the engine. What it leaves out it counts, and tells
at the end of the ten seconds.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from statejobs.values.failure import describe_failure, traceback_of
from statejobs.values.redaction import DEFAULT, Redaction
from statejobs.values.visible import visible, visible_line

LOGGERS = (
    "statejobs",
    "statejobs.acting",
    "statejobs.app",
    "statejobs.clock",
    "statejobs.listen",
    "statejobs.prune",
    "statejobs.runner",
    "statejobs.schedules",
    "statejobs.sweep",
    "statejobs.worker",
)
"""Whose records are spared; those of jobs and of actions tell each something of its own."""
WINDOW = 10.0  # seconds
_MOST_CAUSES = 1_000

Cause = tuple[object, ...]
Delay = Callable[[float, Callable[[], None]], threading.Timer]


def _delay(seconds: float, act: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()
    return timer


@contextmanager
def sparing(delay: Delay = _delay, *, redaction: Redaction = DEFAULT) -> Iterator[None]:
    """Spare the log as long as the context is open; tests pass a *delay* of their own."""
    spared = Sparing(delay, redaction)
    for name in LOGGERS:
        logging.getLogger(name).addFilter(spared.filter)
    try:
        yield
    finally:
        for name in LOGGERS:
            logging.getLogger(name).removeFilter(spared.filter)
        spared.close()


@dataclass(slots=True)
class _Told:
    """A cause that was told, and what was left out since."""

    at: float
    left_out: int = 0
    last: logging.LogRecord | None = None
    timer: threading.Timer | None = field(default=None, repr=False)


class Sparing:
    """Decides for each record of a logger whether it is told."""

    def __init__(self, delay: Delay, redaction: Redaction = DEFAULT) -> None:
        self._delay, self._redaction = delay, redaction
        self._causes: OrderedDict[Cause, _Told] = OrderedDict()
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether *record* is told now; it then holds no values."""
        cause = _cause_of(record)
        _hide_values(record, self._redaction)
        if record.levelno < logging.WARNING:
            return True
        with self._lock:
            told = self._causes.get(cause)
            if told is not None and record.created - told.at < WINDOW:
                self._leave_out(cause, told, record)
                return False
            if told is None:
                self._remember(cause, _Told(record.created))
            else:
                told.at = record.created
                record.exc_info = record.exc_text = None
            return True

    def close(self) -> None:
        """Tell what was left out until now."""
        with self._lock:
            causes = [cause for cause, told in self._causes.items() if told.left_out]
        for cause in causes:
            self._tell(cause)

    def _remember(self, cause: Cause, told: _Told) -> None:
        self._causes[cause] = told
        if len(self._causes) > _MOST_CAUSES:
            self._causes.popitem(last=False)

    def _leave_out(self, cause: Cause, told: _Told, record: logging.LogRecord) -> None:
        told.left_out += 1
        told.last = record
        if told.timer is None:
            rest = max(told.at + WINDOW - record.created, 0)
            told.timer = self._delay(rest, lambda: self._tell(cause))

    def _tell(self, cause: Cause) -> None:
        """Tell how often a cause was left out, with its last record."""
        with self._lock:
            told = self._causes.get(cause)
            if told is None or told.last is None:
                return
            if told.timer is not None:
                told.timer.cancel()
            record, number = told.last, told.left_out
            _bear_the_time_of_now(record)
            told.at, told.left_out, told.last, told.timer = (
                record.created,
                0,
                None,
                None,
            )
        more = f" ({number} like this within {WINDOW:g} s, of which this is the last)"
        if number == 1:
            more = f" (the second like this within {WINDOW:g} s)"
        record.msg, record.args = f"{record.getMessage()}{more}", None
        record.exc_info = record.exc_text = None
        logging.getLogger(record.name).callHandlers(record)


def _bear_the_time_of_now(record: logging.LogRecord) -> None:
    """Let *record* say when it is told: lines of a log stand in the order of their times."""
    now = logging.makeLogRecord({})
    record.created, record.msecs = now.created, now.msecs
    record.relativeCreated = now.relativeCreated


def _cause_of(record: logging.LogRecord) -> Cause:
    """Return what makes two records alike: what they say, the kinds of errors, and where from."""
    errors = [arg for arg in record.args or () if isinstance(arg, BaseException)]
    if isinstance(record.exc_info, tuple) and record.exc_info[1]:
        errors.append(record.exc_info[1])
    return (
        record.name,
        record.levelno,
        record.msg,
        *(_kind_of(error) for error in errors),
    )


def _kind_of(error: BaseException) -> Cause:
    state = getattr(getattr(error, "orig", error), "sqlstate", None)
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = (place.tb_frame.f_code.co_filename, place.tb_lineno) if place else ()
    return type(error), state, where


def _hide_values(record: logging.LogRecord, redaction: Redaction) -> None:
    """Let *record* say of errors what `describe_failure` would, and forge no line."""
    if isinstance(record.args, tuple):
        record.args = tuple(
            visible_line(
                _in_a_line(arg, redaction)
                if isinstance(arg, BaseException)
                else redaction.text(arg)
            )
            if isinstance(arg, str | BaseException)
            else arg
            for arg in record.args
        )
    if isinstance(record.exc_info, tuple) and record.exc_info[1]:
        record.exc_text = visible(
            traceback_of(record.exc_info[1], redaction).rstrip("\n")
        )


def _in_a_line(error: BaseException, redaction: Redaction) -> str:
    """Return what *error* says, on one line."""
    return (
        " ".join(describe_failure(error, redaction).message.split())
        or type(error).__name__
    )
