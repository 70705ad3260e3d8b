"""Jobs and histories as text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from textwrap import indent
from typing import Any

from statejobs.cli.output import Output
from statejobs.people.handled import Handled
from statejobs.people.history import AttemptEntry, ShownAttempt, ShownStep
from statejobs.people.jobs import JobPage, ListedJob, ShownJob
from statejobs.values.job import ENDED, JobState
from statejobs.values.moments import clock_time, relative, span
from statejobs.values.shown import CANNOT_BE_READ, undecoded
from statejobs.values.text import clean_text

_MOST_OF_ARGUMENTS, _MOST_OF_ONE = 60, 24  # characters
_MOST_NAMED = 20


def print_jobs(output: Output, jobs: Sequence[ListedJob], now: datetime) -> None:
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
                job.record_name,
                job.queue,
                f"{job.attempt}/{job.max_attempts}",
                _when(job, now),
                *([arguments[job.id]] if args else []),
                _why(job),
            ]
            for job in jobs
        ],
        right=["id", "attempt"],
        below=["reason", *args, "queue", "record", "when", "attempt", "key"],
    )


def _why(job: ListedJob) -> str | None:
    """Return the reason of *job*; jobs of older versions have only the kind of their error."""
    if job.error is None or job.reason is None:
        return job.reason
    kind, _, _ = job.error.partition(": ")
    is_kind = job.reason in {kind, f"failed: {kind}", f"given back: {kind}"}
    return (
        f"{job.reason.removesuffix(kind)}{job.error}"
        if kind and is_kind
        else job.reason
    )


def short_arguments(values: object) -> str:
    """Return arguments in a few words: `amount=5, to="Ada"`."""
    if not isinstance(values, dict):
        return clean_text(values, _MOST_OF_ARGUMENTS)
    shown = (f"{name}={_short(value)}" for name, value in values.items())
    return _cut(", ".join(islice(shown, _MOST_NAMED)), _MOST_OF_ARGUMENTS)


def _short(value: object) -> str:
    return _cut(json.dumps(value, ensure_ascii=False), _MOST_OF_ONE)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def print_job(output: Output, page: JobPage, now: datetime) -> None:
    """Print everything about one job."""
    output.facts({**_facts(page.job, now), "result": _result(page)})
    if page.attempts:
        _print_attempts(output, page.attempts)
    if page.history:
        output.title(f"History of {page.job.record_name}")
        print_history(output, page.history, now)
    if page.obstacle or page.job.may_be_retried:
        output.title("Next")
        refused = f"it cannot be retried: {page.no_retry}" if page.no_retry else None
        output.paragraph(
            page.obstacle or refused or f"statejobs job retry {page.job.id}"
        )


def print_handled(output: Output, handled: Handled, done: str) -> None:
    """Print what an act has done to many jobs, and why it has left others."""
    counts = (
        (handled.done, done),
        (handled.asked, "asked to stop"),
        (handled.refused_count, "refused"),
        (handled.locked, "held by others or changed meanwhile"),
    )
    told = [f"{count} {what}" for count, what in counts if count]
    output.text(", ".join(told) or f"0 {done}")
    if handled.refused:
        output.title("Refused")
        output.table(
            ["jobs", "why", "such as"],
            [[one.count, one.why, f"job {one.job_id}"] for one in handled.refused],
            right=["jobs"],
            below=["why"],
        )


def _result(page: JobPage) -> str | None:
    return None if page.result is None else undecoded(page.result)


def _print_attempts(output: Output, attempts: Sequence[ShownAttempt]) -> None:
    output.title("Attempts that did not complete")
    for attempt in attempts:
        output.paragraph(f"{attempt.attempt}  {_attempt(attempt)}")
    last = attempts[-1].traceback
    if last:
        output.title("Last traceback")
        # Indented: what it quotes can be taken for no section of ours.
        output.text(indent(last.rstrip(), "  ", lambda _: True))


def print_history(
    output: Output, entries: Sequence[ShownStep | AttemptEntry], now: datetime
) -> None:
    """Print steps, and attempts between them, oldest first."""
    output.table(
        ["at (UTC)", "what", "move", "by", "note"],
        [_row(entry, now) for entry in entries],
        below=["note", "by", "move"],
    )


def _facts(job: ShownJob, now: datetime) -> dict[str, object]:
    return {
        "job": job.id,
        "state": job.state,
        "outcome": job.outcome,
        "reason": job.reason,
        "key": job.key,
        "record": job.record_name,
        "queue": f"{job.queue}, priority {job.priority}",
        "args": undecoded(job.args) if job.args != {} else None,
        "tags": undecoded(job.tags) if job.tags != [] else None,
        "meta": undecoded(job.meta) if job.meta else None,
        "actor": job.actor,
        "tenant": job.tenant,
        "attempt": f"{job.attempt} of {job.max_attempts}",
        "crashes": job.crashes or None,
        "snoozes": job.snoozes or None,
        "progress": _progress(job.progress),
        "enqueued": _moment(job.enqueued_at, now),
        "due": None if job.state in ENDED else _moment(job.run_at, now),
        "started": _moment(job.started_at, now),
        "finished": _moment(job.finished_at, now),
        "lease until": _moment(job.lease_until, now),
        "unique until": _moment(job.unique_until, now),
        "node": job.node,
        "asked to stop": "yes" if job.cancel_requested else None,
        "runs again": "yes, it was enqueued while it ran" if job.run_again else None,
        "idempotency": job.idempotency_key,
    }


def _when(job: ShownJob, now: datetime) -> str:
    if job.state in ENDED:
        return relative(job.finished_at, now)
    if job.state is JobState.PROCESSING:
        return f"since {relative(job.started_at, now).removesuffix(' ago')}"
    return relative(job.run_at, now)


def _moment(at: datetime | None, now: datetime) -> str:
    return f"{clock_time(at)} ({relative(at, now)})" if at else ""


def _progress(progress: Any) -> str | None:
    if progress is None:
        return None
    try:
        return f"{progress['done']} of {progress['total']}"
    except (KeyError, TypeError):
        return f"{CANNOT_BE_READ}{undecoded(progress)}"


def _attempt(attempt: ShownAttempt) -> str:
    return f"{clock_time(attempt.finished_at)}  {attempt.outcome}  {_error(attempt)}".rstrip()


def _error(attempt: ShownAttempt) -> str:
    return ": ".join(part for part in (attempt.error_type, attempt.message) if part)


def _row(entry: ShownStep | AttemptEntry, now: datetime) -> list[object]:
    at = _short_time(entry.at, now)
    if isinstance(entry, AttemptEntry):
        return [at, f"attempt {entry.outcome}", "", _by_attempt(entry), _error(entry)]
    move = f"{entry.source} → {entry.target}" if entry.source else f"→ {entry.target}"
    notes = [entry.reason, _given(entry.args), _took(entry)]
    return [at, entry.name, move, _by(entry), "; ".join(note for note in notes if note)]


def _by(step: ShownStep) -> str:
    if step.attempt is not None:
        return _by_attempt(step)
    return step.actor or (f"job {step.job_id}" if step.job_id else "")  # by hand


def _by_attempt(entry: ShownStep | ShownAttempt) -> str:
    return f"job {entry.job_id} #{entry.attempt}"


def _short_time(at: datetime, now: datetime) -> str:
    """Return a time for a narrow column, with the year only when it is another one."""
    return clock_time(at).removesuffix("Z").removeprefix(f"{now.year}-")


def _given(args: Any) -> str:
    return json.dumps(args) if args else ""


def _took(step: ShownStep) -> str:
    seconds = step.duration_seconds
    if seconds is None or step.job_id is None:
        return ""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else span(seconds)
