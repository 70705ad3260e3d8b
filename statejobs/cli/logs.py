"""The log of a worker: one line for each event, to stderr, with its time."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime

from statejobs.cli.problems import mask
from statejobs.telemetry import Event, Happening

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")

_BORING = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
log = logging.getLogger("statejobs.jobs")


def set_up_logging(level: str, style: str) -> None:
    """Log to stderr, unless the app has set up logging itself."""
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if style == "json" else TextLines())
    root.addHandler(handler)
    root.setLevel(level.upper())


class TextLines(logging.Formatter):
    """`2026-11-24T10:22:31.123Z INFO 4711 statejobs.worker: message`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback follows on lines of its own."""
        name, level = record.name, record.levelname
        ids = "".join(f" {key}={value}" for key, value in _extra(record).items())
        head = f"{_time(record)} {level} {os.getpid()} {name}: {mask(record.getMessage())}{ids}"
        tail = self.formatException(record.exc_info) if record.exc_info else ""
        return f"{head}\n{tail}" if tail else head


class JsonLines(logging.Formatter):
    """One JSON object for each line, with the ids of the job when there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object."""
        entry = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": mask(record.getMessage()),
            "pid": os.getpid(),
            **_extra(record),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def log_event(happening: Happening) -> None:
    """Log how attempts end."""
    fields = happening.fields
    if happening.event is not Event.JOB_ENDED:
        return
    job, outcome = fields["job"], fields["outcome"]
    level = _LEVELS.get(outcome, logging.INFO)
    took = f" after {fields['duration']:.3f} s" if fields["duration"] is not None else ""
    log.log(
        level, "job %s %s (%s %s), attempt %s of %s: %s%s",
        job.id, job.key, job.resource, job.record_id, job.attempt, job.max_attempts, outcome, took,
    )  # fmt: skip


_LEVELS = {"fail": logging.WARNING, "discard": logging.ERROR, "cancel": logging.WARNING}


def _time(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _BORING}
