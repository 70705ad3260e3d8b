"""What is stored of jobs, attempts and moves, as it may leave the process: secrets masked.

The command line, its JSON, and whatever else shows rows to people take them from here. Nothing here
can fail: what cannot be read is marked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from typing import Any

from msgspec import structs

from statejobs.values.failure import MESSAGE_LIMIT, TRACEBACK_LIMIT
from statejobs.values.job import Job
from statejobs.values.redaction import Redaction
from statejobs.values.shown_arguments import masked
from statejobs.values.text import NAME_LIMIT, REASON_LIMIT, clean_text, shown_text

_TEXTS = {
    "reason": REASON_LIMIT,
    "message": MESSAGE_LIMIT,
    "traceback": TRACEBACK_LIMIT,
    "actor": NAME_LIMIT,
    "tenant": NAME_LIMIT,
    "key": NAME_LIMIT,
    "queue": NAME_LIMIT,
    "owner": NAME_LIMIT,
    "node": NAME_LIMIT,
    "error_type": NAME_LIMIT,
}
"""What somebody else chose → most bytes of it."""
_JSON = ("args", "tags", "progress", "held", "result")
_NUMBERS = ("duration", "clock_offset")
CANNOT_BE_READ = "(cannot be read) "
_HEAD = 200


def shown_job(job: Job, redaction: Redaction) -> Job:
    """Return *job* without secrets; its arguments still are JSON."""
    shown = {name: _shown(name, getattr(job, name), redaction) for name in _OF_JOB}
    meta = masked(job.meta, redaction)
    return structs.replace(job, **shown, meta=meta)


def shown_row(row: Mapping[str, Any], redaction: Redaction) -> dict[str, Any]:
    """Return a row of an attempt, a move or a worker without secrets."""
    return {name: _shown(name, value, redaction) for name, value in row.items()}


def decoded(text: object) -> Any:
    """Return stored JSON as values; text that is none, as marked text."""
    if text is None:
        return None
    try:
        return json.loads(str(text))
    except (ValueError, RecursionError):
        return f"{CANNOT_BE_READ}{clean_text(str(text)[:_HEAD], _HEAD)}"


def undecoded(value: object) -> str:
    """Return what `decoded` returned as text again, unmarked."""
    if isinstance(value, str) and value.startswith(CANNOT_BE_READ):
        return value.removeprefix(CANNOT_BE_READ)
    return json.dumps(value, ensure_ascii=False)


def _shown(name: str, value: Any, redaction: Redaction) -> Any:
    if value is None:
        return None
    if name in _JSON:
        return _shown_json(value, redaction)
    if name in _NUMBERS:
        return value if isinstance(value, int | float) and isfinite(value) else None
    limit = _TEXTS.get(name)
    return value if limit is None else shown_text(value, limit, redaction)


def _shown_json(text: object, redaction: Redaction) -> str:
    values = decoded(text)
    if isinstance(values, str) and values.startswith(CANNOT_BE_READ):
        return shown_text(str(text)[:_HEAD], _HEAD, redaction)
    return json.dumps(masked(values, redaction), ensure_ascii=False)


_OF_JOB = tuple(name for name in (*_TEXTS, *_JSON) if name in Job.__struct_fields__)
