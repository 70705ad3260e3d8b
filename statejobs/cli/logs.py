"""The log of a worker: one line for each event, to stderr, with its time."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from textwrap import indent
from typing import Any

from statejobs.cli.output import as_json, iso, relative
from statejobs.telemetry import Event, Happening
from statejobs.values.clock import utcnow
from statejobs.values.failure import traceback_of
from statejobs.values.job import JobState
from statejobs.values.redaction import DEFAULT, MASK, Redaction
from statejobs.values.shown_arguments import masked
from statejobs.values.visible import visible, visible_line

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")

FIELDS = "statejobs"
"""Attribute of a log record under which the fields of a job are; JSON lines show them."""
_BORING = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", FIELDS}
log = logging.getLogger("statejobs.jobs")


def set_up_logging(level: str, style: str, redaction: Redaction = DEFAULT) -> None:
    """Log to stderr, unless the app has set up logging itself."""
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(redaction) if style == "json" else TextLines(redaction))
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
        name, level = record.name, record.levelname
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
            name: MASK if self._redaction.hides(name) else masked(_plain(value), self._redaction)
            for name, value in fields.items()
        }


def log_event(happening: Happening) -> None:
    """Log how attempts end, and which jobs are cancelled before one, and why."""
    match happening.event:
        case Event.JOB_ENDED:
            _log_end(happening.fields)
        case Event.JOB_STALE:
            job_id, reason = happening.fields["job_id"], happening.fields["reason"]
            named = {FIELDS: {"job_id": job_id, "outcome": "stale", "reason": reason}}
            shown = visible_line(str(reason))
            log.info("job %s: cancelled, since it is stale: %s", job_id, shown, extra=named)
        case _:
            pass


def _log_end(fields: Mapping[str, Any]) -> None:
    job, outcome = fields["job"], fields["outcome"]
    record = f" ({job.resource} {job.record_id})" if job.resource else ""
    is_moot = fields["is_overtaken"] or (fields["reason"] or "").startswith("stale: ")
    level = logging.INFO if is_moot else _LEVELS.get(outcome, logging.INFO)
    log.log(
        level, "job %s %s%s, attempt %s of %s%s: %s",
        job.id, job.key, record, job.attempt, job.max_attempts, _took(fields["duration"]),
        visible_line(_ending(fields)), extra={FIELDS: _job_fields(fields)},
    )  # fmt: skip


_LEVELS = {"fail": logging.WARNING, "discard": logging.ERROR, "cancel": logging.WARNING}
_WORDS = {
    "complete": "completed",
    "fail": "failed",
    "discard": "discarded",
    "cancel": "cancelled",
    "snooze": "snoozed",
    "give_back": "given back",
    "release": "given back",
    "rescue": "rescued",
}


def _took(seconds: float | None) -> str:
    return "" if seconds is None else f" ({seconds:.3f} s)"


def _ending(fields: Mapping[str, Any]) -> str:
    """Return `failed: ValueError: card declined; again in 15 s`."""
    failure, reason, run_at = fields["failure"], fields["reason"], fields["run_at"]
    if failure is not None:
        reason = failure.cause
    ending = _WORDS.get(fields["outcome"], fields["outcome"])
    again = f"; again {_soon(run_at)}" if run_at else ""
    if run_at and fields["state"] is JobState.PROCESSING:
        again = f"; that move is tried again {_soon(run_at)}"
    reason = reason and reason.removeprefix(f"{ending}: ")
    return f"{ending}: {reason}{again}" if reason else f"{ending}{again}"


def _soon(run_at: datetime) -> str:
    """Return when it is due again; the moment may have come before its line is written."""
    now = utcnow()
    return relative(run_at, now) if run_at > now else "at once"


def _traceback(record: logging.LogRecord, redaction: Redaction) -> str:
    error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    return traceback_of(error, redaction).rstrip("\n") if error is not None else ""


def _plain(value: object) -> object:
    """Return *value* if JSON has it, else as text."""
    is_json = isinstance(value, dict | list | str | int | float | None)
    return value if is_json else str(value)


def _job_fields(fields: Mapping[str, Any]) -> dict[str, object]:
    job, failure = fields["job"], fields["failure"]
    return {
        "job_id": job.id,
        "key": job.key,
        "queue": job.queue,
        "resource": job.resource,
        "record_id": job.record_id,
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "outcome": fields["outcome"],
        "state": fields["state"],
        "duration_seconds": fields["duration"],
        "reason": fields["reason"],
        "error_type": failure.error_type if failure else None,
        "error_message": failure.message if failure else None,
        "run_at": iso(fields["run_at"]),
    }


def _time(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _BORING}
