"""Jobs and histories as text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice
from textwrap import indent
from types import MappingProxyType
from typing import Any

from statejobs.cli.documents import reason_of
from statejobs.cli.output import Output
from statejobs.values.job import ENDED, Job, JobState
from statejobs.values.moments import clock_time, relative, span
from statejobs.values.shown import decoded
from statejobs.values.text import clean_text

EMPTY: Mapping[int, str] = MappingProxyType({})
_MOST_OF_ARGUMENTS, _MOST_OF_ONE = 60, 24  # characters
_MOST_NAMED = 20


def print_jobs(
    output: Output, jobs: Sequence[Job], now: datetime, errors: Mapping[int, str] = EMPTY
) -> None:
    """Print one line for each job, with what its last attempt raised."""
    arguments = {job.id: short_arguments(job.args) for job in jobs}
    args = ["args"] if any(arguments.values()) else []
    output.table(
        ["id", "state", "key", "record", "queue", "attempt", "when", *args, "reason"],
        [
            [
                job.id,
                job.state,
                job.key,
                record_name(job),
                job.queue,
                f"{job.attempt}/{job.max_attempts}",
                _when(job, now),
                *([arguments[job.id]] if args else []),
                why(job, errors.get(job.id)),
            ]
            for job in jobs
        ],
        right=["id", "attempt"],
        below=["reason", *args, "queue", "record", "when", "attempt", "key"],
    )


def why(job: Job, error: str | None) -> str | None:
    """Return the reason of *job*; jobs of older versions have only the kind of their *error*."""
    reason = reason_of(job)
    if error is None or reason is None:
        return reason
    kind, _, _ = error.partition(": ")
    is_kind = reason in {kind, f"failed: {kind}", f"given back: {kind}"}
    return f"{reason.removesuffix(kind)}{error}" if kind and is_kind else reason


def short_arguments(text: str) -> str:
    """Return stored arguments in a few words: `amount=5, to="Ada"`."""
    values = decoded(text)
    if not isinstance(values, dict):
        return clean_text(values, _MOST_OF_ARGUMENTS)
    shown = (f"{name}={_short(value)}" for name, value in values.items())
    return _cut(", ".join(islice(shown, _MOST_NAMED)), _MOST_OF_ARGUMENTS)


def _short(value: object) -> str:
    return _cut(json.dumps(value, ensure_ascii=False), _MOST_OF_ONE)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def print_job(
    output: Output, job: Job, attempts: Sequence[Mapping[str, Any]],
    history: Sequence[Mapping[str, Any]], now: datetime, *, obstacle: str | None = None,
    no_retry: str | None = None,
) -> None:  # fmt: skip
    """Print everything about one job; *obstacle* says why it will not run by itself."""
    output.facts(_facts(job, now))
    if attempts:
        output.title("Attempts that did not complete")
        for attempt in attempts:
            output.paragraph(f"{attempt['attempt']}  {_attempt(attempt)}")
        if attempts[-1]["traceback"]:
            output.title("Last traceback")
            # Indented: what it quotes can be taken for no section of ours.
            output.text(indent(attempts[-1]["traceback"].rstrip(), "  ", lambda _: True))
    if history:
        output.title(f"History of {record_name(job)}")
        print_history(output, history, now)
    if obstacle or may_be_retried(job):
        output.title("Next")
        refused = f"it cannot be retried: {no_retry}" if no_retry else None
        output.paragraph(obstacle or refused or f"statejobs job retry {job.id}")


def may_be_retried(job: Job) -> bool:
    """Return whether a person may want *job* to go on."""
    return job.state in {JobState.DISCARDED, JobState.CANCELLED, JobState.FAILED}


def print_history(output: Output, events: Sequence[Mapping[str, Any]], now: datetime) -> None:
    """Print steps, and attempts between them, oldest first."""
    output.table(
        ["at (UTC)", "what", "move", "by", "note"],
        [_attempt_row(e, now) if e.get("kind") == "attempt" else _step_row(e, now) for e in events],
        below=["note", "by", "move"],
    )


def record_name(job: Job) -> str:
    """Return how people call the record of *job*."""
    return f"{job.resource} {job.record_id}" if job.resource else ""


def _facts(job: Job, now: datetime) -> dict[str, object]:
    return {
        "job": job.id,
        "state": job.state.value,
        "reason": reason_of(job),
        "key": job.key,
        "record": record_name(job),
        "queue": f"{job.queue}, priority {job.priority}",
        "args": job.args if job.args != "{}" else None,
        "tags": job.tags if job.tags != "[]" else None,
        "actor": job.actor,
        "tenant": job.tenant,
        "attempt": f"{job.attempt} of {job.max_attempts}",
        "crashes": job.crashes or None,
        "progress": _progress(job.progress),
        "enqueued": _moment(job.enqueued_at, now),
        "due": None if job.state in ENDED else _moment(job.run_at, now),
        "started": _moment(job.started_at, now),
        "finished": _moment(job.finished_at, now),
        "lease until": _moment(job.lease_until, now),
        "node": job.owner,
        "asked to stop": "yes" if job.cancel_requested else None,
        "runs again": "yes, it was enqueued while it ran" if job.run_again else None,
        "idempotency": job.idempotency_key,
    }


def _when(job: Job, now: datetime) -> str:
    if job.state in ENDED:
        return relative(job.finished_at, now)
    if job.state is JobState.PROCESSING:
        return f"since {relative(job.started_at, now).removesuffix(' ago')}"
    return relative(job.run_at, now)


def _moment(at: datetime | None, now: datetime) -> str:
    return f"{clock_time(at)} ({relative(at, now)})" if at else ""


def _progress(text: str | None) -> str | None:
    if text is None:
        return None
    progress = decoded(text)
    try:
        return f"{progress['done']} of {progress['total']}"
    except (KeyError, TypeError):
        return f"(cannot be read) {text}"


def _attempt(attempt: Mapping[str, Any]) -> str:
    at = clock_time(datetime.fromisoformat(attempt["finished_at"]))
    return f"{at}  {attempt['outcome']}  {_error(attempt)}".rstrip()


def _error(attempt: Mapping[str, Any]) -> str:
    return ": ".join(part for part in (attempt["error_type"], attempt["message"]) if part)


def _step_row(step: Mapping[str, Any], now: datetime) -> list[object]:
    move = f"{step['source']} → {step['target']}" if step["source"] else f"→ {step['target']}"
    notes = [step["reason"], _given(step["args"]), _took(step)]
    return [
        _short_time(step["at"], now), step["name"], move, _by(step),
        "; ".join(text for text in notes if text),
    ]  # fmt: skip


def _attempt_row(attempt: Mapping[str, Any], now: datetime) -> list[object]:
    what = f"attempt {attempt['outcome']}"
    return [_short_time(attempt["at"], now), what, "", _by(attempt), _error(attempt)]


def _by(event: Mapping[str, Any]) -> str:
    if event["attempt"] is None:  # by hand, perhaps to a job
        return event["actor"] or (f"job {event['job_id']}" if event["job_id"] else "")
    return f"job {event['job_id']} #{event['attempt']}"


def _short_time(at: str, now: datetime) -> str:
    """Return a time for a narrow column, with the year only when it is another one."""
    text = clock_time(datetime.fromisoformat(at)).removesuffix("Z")
    return text.removeprefix(f"{now.year}-")


def _given(args: Any) -> str:
    return json.dumps(args) if args else ""


def _took(step: Mapping[str, Any]) -> str:
    seconds = step["duration_seconds"]
    if seconds is None or step["job_id"] is None:
        return ""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else span(seconds)
