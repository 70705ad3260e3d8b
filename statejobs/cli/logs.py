"""The log of a worker: one line for each event, to stderr, with its time."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from textwrap import indent

from statejobs.cli.output import as_json
from statejobs.runner.joblog import FIELDS
from statejobs.values.failure import traceback_of
from statejobs.values.redaction import DEFAULT, Redaction
from statejobs.values.secret_values import MASK
from statejobs.values.shown_arguments import masked
from statejobs.values.visible import visible, visible_line

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")

_BORING = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", FIELDS}
log = logging.getLogger("statejobs.jobs")


def set_up_logging(level: str, style: str, redaction: Redaction = DEFAULT) -> None:
    """Log to stderr, unless the app has set up logging itself."""
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonLines(redaction) if style == "json" else TextLines(redaction)
    )
    root.addHandler(handler)
    root.setLevel(level.upper())
    threading.excepthook = _log_end_of_thread


def _log_end_of_thread(ended: threading.ExceptHookArgs) -> None:
    """Log what ended a thread; Python would print it as it is."""
    error = ended.exc_value
    named = ended.thread.name if ended.thread else "a thread"
    if error is not None and not isinstance(error, SystemExit):
        log.error("%s ended", named, exc_info=(type(error), error, ended.exc_traceback))


class TextLines(logging.Formatter):
    """`2026-11-24T10:22:31.123Z INFO 4711 statejobs.worker: message`."""

    def __init__(self, redaction: Redaction = DEFAULT) -> None:
        super().__init__()
        self._redaction = redaction

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback follows, indented: what it quotes can forge no line."""
        name = record.name
        level = record.levelname
        ids = "".join(f" {key}={value}" for key, value in _extra(record).items())
        said = self._redaction.text(f"{record.getMessage()}{ids}")
        head = visible_line(f"{_time(record)} {level} {os.getpid()} {name}: {said}")
        tail = visible(_traceback(record, self._redaction))
        return f"{head}\n{indent(tail, '  ', lambda _: True)}" if tail else head


class JsonLines(logging.Formatter):
    """One JSON object for each line, with the ids of the job when there is one."""

    def __init__(self, redaction: Redaction = DEFAULT) -> None:
        super().__init__()
        self._redaction = redaction

    def format(self, record: logging.LogRecord) -> str:
        """Return the object."""
        entry = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._redaction.text(record.getMessage()),
            "pid": os.getpid(),
            **self._shown(getattr(record, FIELDS, {})),
            **self._shown(_extra(record)),
        }
        if record.exc_info:
            entry["traceback"] = _traceback(record, self._redaction)
        return as_json(entry)

    def _shown(self, fields: Mapping[str, object]) -> dict[str, object]:
        return {
            name: MASK
            if self._redaction.hides(name)
            else masked(_plain(value), self._redaction)
            for name, value in fields.items()
        }


def _traceback(record: logging.LogRecord, redaction: Redaction) -> str:
    error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    return traceback_of(error, redaction).rstrip("\n") if error is not None else ""


def _plain(value: object) -> object:
    """Return *value* if JSON has it, else as text."""
    is_json = isinstance(value, dict | list | str | int | float | None)
    return value if is_json else str(value)


def _time(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _BORING}
