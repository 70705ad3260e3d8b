"""What goes wrong, and where: attempts that failed, put together by what they have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from statejobs.people.desk import Desk
from statejobs.store.failed import FailedAttempt, failed_attempts
from statejobs.values.clock import FIRST
from statejobs.values.frames import Frame, last_frame
from statejobs.values.redaction import Redaction
from statejobs.values.text import NAME_LIMIT, shown_text

MOST_READ = 10_000
"""Attempts that are looked at."""


@dataclass(frozen=True, kw_only=True)
class ErrorGroup:
    """Attempts of one key that failed in the same way, at the same place."""

    key: str
    error_type: str
    """What was raised; `crashed` when the worker died."""
    place: Frame | None
    """The last line of the user's code that its traceback names."""
    message: str
    """Of the newest, its first line."""
    attempts: int
    jobs: int
    records: int
    job_id: int
    """The newest of its jobs."""


@dataclass(frozen=True, kw_only=True)
class JobErrors:
    """What went wrong since a time, the most frequent first."""

    since: datetime
    groups: tuple[ErrorGroup, ...]
    has_more: bool
    """Whether there are more attempts than were looked at, the newest."""


def job_errors(desk: Desk, *, since: timedelta) -> JobErrors:
    """Return what went wrong in the time *since* then until now."""
    now = desk.now()
    begin = now - since if since < now - FIRST else FIRST
    found = failed_attempts(desk.store, begin)
    groups = [
        _group(*item, desk.redaction)
        for item in _by_kind(islice(found, MOST_READ)).items()
    ]
    return JobErrors(
        since=begin,
        groups=tuple(sorted(groups, key=lambda group: -group.attempts)),
        has_more=next(found, None) is not None,
    )


_Kind = tuple[str, str, Frame | None]


def _by_kind(found: Iterable[FailedAttempt]) -> dict[_Kind, list[FailedAttempt]]:
    kinds: dict[_Kind, list[FailedAttempt]] = {}
    for attempt in found:
        raised = attempt.outcome if attempt.error_type is None else attempt.error_type
        kind = attempt.key, raised, last_frame(attempt.traceback)
        # thousands of tracebacks would fill the memory
        kinds.setdefault(kind, []).append(attempt._replace(traceback=None))
    return kinds


def _group(
    kind: _Kind, own: Sequence[FailedAttempt], redaction: Redaction
) -> ErrorGroup:
    key, error_type, place = kind
    newest = own[0]
    lines = (newest.message or "").strip().splitlines()
    records = {(a.resource, a.record_id) for a in own if a.record_id is not None}
    return ErrorGroup(
        key=key,
        error_type=error_type,
        place=place,
        message=shown_text(lines[0], NAME_LIMIT, redaction) if lines else "",
        attempts=len(own),
        jobs=len({attempt.job_id for attempt in own}),
        records=len(records),
        job_id=newest.job_id,
    )
