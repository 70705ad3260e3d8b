"""`status` and `queue list`: how things stand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from statejobs.cli.group import Group
from statejobs.cli.output import Output
from statejobs.cli.settings import Settings, common_options
from statejobs.people.jobs import ShownJob
from statejobs.people.status import (
    QueueStatus,
    Status,
    WaitingForCode,
    queues,
    status_of,
)
from statejobs.people.workers import ShownWorker
from statejobs.values.anchor import TOLERANCE
from statejobs.values.job import JobState
from statejobs.values.lifecycle import STUCK
from statejobs.values.moments import relative, span
from statejobs.values.shown import CANNOT_BE_READ, undecoded
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
    page = status_of(app.desk, settings.app_name())
    if settings.as_json:
        settings.output.json(page)
        return
    _print_status(settings.output, page, app.desk.now())


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
    listed = queues(app.desk)
    if settings.as_json:
        settings.output.json({"queues": listed})
    else:
        _print_queues(settings.output, listed)


def _print_status(output: Output, page: Status, now: datetime) -> None:
    output.facts({"app": page.app, "database": page.database})
    output.title("Queues")
    _print_queues(output, page.queues)
    if page.workers and page.unserved:
        output.paragraph(f"no worker serves {', '.join(page.unserved)}")
    output.title("Workers")
    if page.workers:
        _print_workers(output, page.workers, now)
    else:
        output.text("none: start one with  statejobs worker")
    if page.waiting_for_other_code:
        output.title("Waiting for other code, or a worker of another role")
        _print_waiting(output, page.waiting_for_other_code)
    if page.paused:
        output.title("Paused by paused=True in the code")
        rows = [[paused.key, paused.waiting] for paused in page.paused]
        output.table(["key", "waiting"], rows, right=["waiting"])
    if page.put_aside:
        output.title("Records that cannot be moved back yet")
        _print_unmoved(output, page.put_aside)
        output.text("tried again by themselves, until their jobs are given up")
    if page.stuck:
        output.title("Stuck")
        _print_unmoved(output, page.stuck)
        output.text(
            "move them back and let their jobs go on with  statejobs job retry ID"
        )
    _print_records(output, page)


def _print_waiting(output: Output, waiting: Sequence[WaitingForCode]) -> None:
    rows = [
        [row.key, row.count, row.reason.removeprefix(OTHER_CODE)] for row in waiting
    ]
    output.table(["key", "jobs", "why"], rows, right=["jobs"], below=["why"])


def _print_unmoved(output: Output, jobs: Sequence[ShownJob]) -> None:
    """Print the records that nobody could move, and why; the heading says that they are stuck."""
    rows = [
        [job.id, job.key, job.record_name, (job.reason or "").removeprefix(STUCK)]
        for job in jobs
    ]
    headers = ["job", "key", "record", "why"]
    output.table(headers, rows, right=["job"], below=["why", "record"])


def _print_records(output: Output, page: Status) -> None:
    for resource, counts in page.records.items():
        output.title(resource)
        if output.fits(list(counts), [list(counts.values())]):
            output.table(list(counts), [list(counts.values())], right=list(counts))
        else:
            output.facts(counts)
    for resource, reason in page.uncounted.items():
        output.title(resource)
        output.paragraph(f"cannot be counted: {reason}")


def _print_queues(output: Output, listed: Sequence[QueueStatus]) -> None:
    """Print a column for each state; for fewer, or for none of them, in a narrow terminal."""
    held = [state for state in JobState if any(queue.states[state] for queue in listed)]
    usual = [state for state in JobState if state not in _RARE or state in held]
    for states in (usual, held):
        headers = ["queue", "limit", *states, "oldest", "workers"]
        rows = [[*_head(q), *(q.states[s] for s in states), *_tail(q)] for q in listed]
        if output.fits(headers, rows):
            output.table(headers, rows, right=headers[1:])
            return
    headers = ["queue", "limit", "oldest", "workers", "jobs"]
    rows = [[*_head(q), *_tail(q), _in_words(q.states)] for q in listed]
    output.table(headers, rows, right=headers[1:-1], below=["jobs"])


def _head(queue: QueueStatus) -> list[object]:
    return [queue.queue, "none" if queue.limit is None else queue.limit]


def _tail(queue: QueueStatus) -> list[object]:
    seconds = queue.oldest_queued_seconds
    return ["" if seconds is None else span(seconds), queue.workers]


def _in_words(states: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in states.items() if count)


def _print_workers(
    output: Output, workers: Sequence[ShownWorker], now: datetime
) -> None:
    output.table(
        ["node", "state", "host", "pid", "queues", "heartbeat"],
        [
            [
                worker.node[:8],
                "lives" if worker.lives else "silent",
                worker.host,
                worker.pid,
                _queue_option(worker.queues),
                relative(worker.beat_at, now),
            ]
            for worker in workers
        ],
        right=["pid"],
        below=["queues", "host", "heartbeat"],
    )
    for worker in workers:
        if (wrong := _wrong_clock(worker.clock_offset)) is not None:
            output.paragraph(
                f"{worker.node[:8]}: its machine's clock is {wrong} the database's"
            )
        held = worker.held_keys
        for key in held if isinstance(held, list) else [held]:
            output.paragraph(f"{worker.node[:8]}: {_held(key)}")


def _held(key: Any) -> str:
    try:
        every = span(key["retry_seconds"])
        name = key["key"]
        reason = key["reason"]
    except (KeyError, TypeError):
        return f"a key that it cannot claim: {CANNOT_BE_READ}{undecoded(key)}"
    return f"no job of {name} can be claimed, tried again every {every}: {reason}"


def _wrong_clock(offset: float | None) -> str | None:
    if offset is None or abs(offset) <= TOLERANCE:
        return None
    return f"{span(abs(offset))} {'ahead of' if offset > 0 else 'behind'}"


def _queue_option(queues: Any) -> str:
    """Return queues and limits as `--queues` takes them."""
    if not isinstance(queues, dict):
        return json.dumps(queues)
    return ",".join(f"{name}:{limit}" for name, limit in queues.items())
