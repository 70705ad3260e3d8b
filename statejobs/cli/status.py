"""`status` and `queue list`: how things stand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from statejobs.app import StateJobs
from statejobs.cli.documents import (
    database_name,
    job_document,
    queue_documents,
    record_counts,
    worker_documents,
)
from statejobs.cli.group import Group
from statejobs.cli.output import Output
from statejobs.cli.settings import Settings, common_options
from statejobs.values.anchor import TOLERANCE
from statejobs.values.job import Job, JobState
from statejobs.values.lifecycle import STUCK
from statejobs.values.moments import relative, span
from statejobs.values.shown import shown_job, shown_row
from statejobs.values.waiting import OTHER_CODE

_RARE = {JobState.SCHEDULED, JobState.CANCELLED}
"""States that get a column only when there is such a job, so that 80 columns suffice."""


@click.command()
@common_options
@click.pass_obj
def status(settings: Settings) -> None:
    """Show queues, workers and records on one page.

    \b
    Example:
      statejobs status --app shop:jobs
    """  # noqa: D301 - click's mark for lines that it must not wrap
    app = settings.load_existing()
    app.check_tables()
    counts, uncounted = record_counts(app)
    document = {
        "app": settings.app_name(),
        "database": database_name(app),
        "queues": queue_documents(app),
        "workers": worker_documents(app),
        "records": counts,
        "uncounted": uncounted,
        "stuck": _documents(app, app.stuck_jobs()),
        "put_aside": _documents(app, app.queries.put_aside()),
        "waiting_for_other_code": [
            shown_row(row, app.redaction)
            for row in app.queries.waiting_for_other_code(app.sources.clock.now())
        ],
    }
    if settings.as_json:
        settings.output.json(document)
        return
    _print_status(settings.output, document, app.sources.clock.now())


@click.group("queue", cls=Group)
@common_options
def queue_group() -> None:
    """Look at queues."""


@queue_group.command("list")
@common_options
@click.pass_obj
def list_queues(settings: Settings) -> None:
    """List the queues with their limits, jobs and workers."""
    app = settings.load_existing()
    app.check_tables()
    queues = queue_documents(app)
    if settings.as_json:
        settings.output.json({"queues": queues})
    else:
        _print_queues(settings.output, queues)


def _documents(app: StateJobs, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    return [job_document(shown_job(job, app.redaction)) for job in jobs]


def _print_status(output: Output, document: Mapping[str, Any], now: datetime) -> None:
    output.facts({"app": document["app"], "database": document["database"]})
    output.title("Queues")
    _print_queues(output, document["queues"])
    output.title("Workers")
    if document["workers"]:
        _print_workers(output, document["workers"], now)
    else:
        output.text("none: start one with  statejobs worker")
    if document["waiting_for_other_code"]:
        output.title("Waiting for other code, or a worker of another role")
        rows = [
            [row["key"], row["count"], row["reason"].removeprefix(OTHER_CODE)]
            for row in document["waiting_for_other_code"]
        ]
        output.table(["key", "jobs", "why"], rows, right=["jobs"], below=["why"])
    if document["put_aside"]:
        output.title("Records that cannot be moved back yet")
        _print_unmoved(output, document["put_aside"])
        output.text("tried again by themselves, until their jobs are given up")
    if document["stuck"]:
        output.title("Stuck")
        _print_unmoved(output, document["stuck"])
        output.text("move them back and let their jobs go on with  statejobs job retry ID")
    for resource, counts in document["records"].items():
        output.title(resource)
        if output.fits(list(counts), [list(counts.values())]):
            output.table(list(counts), [list(counts.values())], right=list(counts))
        else:
            output.facts(counts)
    for resource, reason in document["uncounted"].items():
        output.title(resource)
        output.paragraph(f"cannot be counted: {reason}")


def _print_unmoved(output: Output, stuck: Sequence[Mapping[str, Any]]) -> None:
    """Print the records that nobody could move, and why."""
    rows = [
        [job["id"], job["key"], f"{job['resource']} {job['record_id']}", _why(job)] for job in stuck
    ]
    headers = ["job", "key", "record", "why"]
    output.table(headers, rows, right=["job"], below=["why", "record"])


def _why(job: Mapping[str, Any]) -> str:
    """Return the reason of a job, without what the heading says."""
    return (job["reason"] or "").removeprefix(STUCK)


def _print_queues(output: Output, queues: Sequence[Mapping[str, Any]]) -> None:
    """Print a column for each state; for fewer, or for none of them, in a narrow terminal."""
    held = [state for state in JobState if any(queue["states"][state] for queue in queues)]
    usual = [state for state in JobState if state not in _RARE or state in held]
    for states in (usual, held):
        headers = ["queue", "limit", *states, "oldest", "workers"]
        rows = [[*_head(q), *(q["states"][s] for s in states), *_tail(q)] for q in queues]
        if output.fits(headers, rows):
            output.table(headers, rows, right=headers[1:])
            return
    headers = ["queue", "limit", "oldest", "workers", "jobs"]
    rows = [[*_head(q), *_tail(q), _in_words(q["states"])] for q in queues]
    output.table(headers, rows, right=headers[1:-1], below=["jobs"])


def _head(queue: Mapping[str, Any]) -> list[object]:
    return [queue["queue"], queue["limit"] if queue["limit"] is not None else "none"]


def _tail(queue: Mapping[str, Any]) -> list[object]:
    return [_waits(queue["oldest_queued_seconds"]), queue["workers"]]


def _in_words(states: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in states.items() if count)


def _print_workers(output: Output, workers: Sequence[Mapping[str, Any]], now: datetime) -> None:
    output.table(
        ["node", "state", "host", "pid", "queues", "heartbeat"],
        [
            [
                worker["node"][:8],
                "lives" if worker["lives"] else "silent",
                worker["host"],
                worker["pid"],
                _queue_option(worker["queues"]),
                relative(datetime.fromisoformat(worker["beat_at"]), now),
            ]
            for worker in workers
        ],
        right=["pid"],
        below=["queues", "host", "heartbeat"],
    )
    for worker in workers:
        if (wrong := _wrong_clock(worker["clock_offset"])) is not None:
            output.paragraph(f"{worker['node'][:8]}: its machine's clock is {wrong} the database's")
        for held in worker["held_keys"]:
            output.paragraph(
                f"{worker['node'][:8]}: no job of {held['key']} can be claimed, tried again every"
                f" {span(held['retry_seconds'])}: {held['reason']}"
            )


def _wrong_clock(offset: float | None) -> str | None:
    if offset is None or abs(offset) <= TOLERANCE:
        return None
    return f"{span(abs(offset))} {'ahead of' if offset > 0 else 'behind'}"


def _queue_option(queues: Any) -> str:
    """Return queues and limits as `--queues` takes them."""
    if not isinstance(queues, dict):
        return json.dumps(queues)
    return ",".join(f"{name}:{limit}" for name, limit in queues.items())


def _waits(seconds: float | None) -> str:
    return "" if seconds is None else span(seconds)
