"""What commands show, as plain values with stable keys: the documents of `--json`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from statejobs.app import StateJobs
from statejobs.errors import did_you_mean
from statejobs.resource.model import ResourceModel
from statejobs.runner.worker import SILENT_NODE
from statejobs.store.engines.addresses import shown_url
from statejobs.store.faults import Fault, fault_of, words_of
from statejobs.store.queries import AtLeast
from statejobs.values.graph import Edge, MachineSpec
from statejobs.values.job import WAITING, Job, JobState
from statejobs.values.moments import iso
from statejobs.values.shown import decoded, shown_row
from statejobs.values.text import NAME_LIMIT, shown_text


def job_document(job: Job) -> dict[str, Any]:
    """Return a job."""
    return {
        "id": job.id,
        "key": job.key,
        "queue": job.queue,
        "priority": job.priority,
        "state": job.state.value,
        "reason": reason_of(job),
        "resource": job.resource,
        "record_id": job.record_id,
        "args": decoded(job.args),
        "tags": decoded(job.tags),
        "actor": job.actor,
        "tenant": job.tenant,
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "crashes": job.crashes,
        "cancel_requested": job.cancel_requested,
        "run_again": job.run_again,
        "progress": decoded(job.progress),
        "idempotency_key": job.idempotency_key,
        "node": job.owner,
        "enqueued_at": iso(job.enqueued_at),
        "run_at": iso(job.run_at),
        "started_at": iso(job.started_at),
        "finished_at": iso(job.finished_at),
        "lease_until": iso(job.lease_until),
    }


def reason_of(job: Job) -> str | None:
    """Return the reason of *job* for the state it is in; a running one still has its last."""
    is_running = job.state is JobState.PROCESSING and job.owner is not None
    is_old = is_running and not job.cancel_requested
    return None if is_old else job.reason


def why_unserved(app: StateJobs, job: Job) -> str | None:
    """Say that no worker will take a waiting *job* that is due, or any of its queue."""
    is_ours = job.queue in app.queues
    if job.state not in WAITING or (is_ours and job.run_at > app.sources.clock.now()):
        return None
    if any(job.queue in worker["queues"] for worker in worker_documents(app) if worker["lives"]):
        return None
    if is_ours:
        return f"no worker serves queue {job.queue!r}: start one with  statejobs worker"
    hint = did_you_mean(job.queue, app.queues)
    return f"no worker of this app serves queue {job.queue!r}; {hint}"


def attempt_document(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return an attempt that did not complete."""
    return {
        "job_id": row["job_id"],
        "attempt": row["attempt"],
        "outcome": row["outcome"],
        "error_type": row["error_type"],
        "message": row["message"],
        "traceback": row["traceback"],
        "node": row["node"],
        "started_at": iso(row["started_at"]),
        "finished_at": iso(row["finished_at"]),
    }


def transition_document(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return one step of a record's history."""
    return {
        "at": iso(row["at"]),
        "name": row["name"],
        "source": row["source"],
        "target": row["target"],
        "version": row["version"],
        "actor": row["actor"],
        "tenant": row["tenant"],
        "job_id": row["job_id"],
        "attempt": row["attempt"],
        "args": decoded(row["args"]),
        "reason": row["reason"],
        "duration_seconds": row["duration"],
    }


def attempts_of(app: StateJobs, job_id: int) -> list[dict[str, Any]]:
    """Return the attempts of a job that did not complete, as they may be shown."""
    return [shown_row(row, app.redaction) for row in app.queries.attempts(job_id)]


def last_errors(app: StateJobs, jobs: Sequence[Job]) -> dict[int, str]:
    """Return what the last attempt of each job raised that did not end well, on a line."""
    waits = [job.id for job in jobs if job.state is not JobState.COMPLETED and job.attempt]
    found = app.queries.last_errors(waits)
    return {
        job_id: shown_text(_in_a_line(*error), NAME_LIMIT, app.redaction)
        for job_id, error in found.items()
    }


def _in_a_line(kind: str, message: str) -> str:
    lines = message.strip().splitlines()
    return f"{kind}: {lines[0]}" if lines else kind


def steps_of(app: StateJobs, resource: str, record_id: str) -> list[dict[str, Any]]:
    """Return the history of a record, as it may be shown."""
    rows = app.queries.transitions(resource, record_id)
    return [shown_row(row, app.redaction) for row in rows]


def timeline(app: StateJobs, resource: str, record_id: str) -> list[dict[str, Any]]:
    """Return what happened to a record, oldest first: its steps, and its attempts that failed."""
    jobs = app.queries.jobs(resource=resource, record_id=record_id)
    rows = [row for job in jobs for row in attempts_of(app, job.id)]
    failed = deque(sorted(rows, key=lambda row: row["finished_at"]))
    events: list[dict[str, Any]] = []
    # Steps stay in the order of their rows: the clocks of several machines may disagree.
    for step in steps_of(app, resource, record_id):
        while failed and failed[0]["finished_at"] < step["at"]:
            events.append(_attempt_event(failed.popleft()))
        events.append({"kind": "transition", **transition_document(step)})
    return [*events, *map(_attempt_event, failed)]


def database_name(app: StateJobs) -> str:
    """Return the URL of the app's database, without password, driver and options."""
    return shown_url(app.engine.url)


def worker_documents(app: StateJobs) -> list[dict[str, Any]]:
    """Return the worker processes that live, or died not long ago."""
    now = app.sources.clock.now()
    return [
        {
            "node": row["id"],
            "host": row["host"],
            "pid": row["pid"],
            "queues": decoded(row["queues"]),
            "version": row["version"],
            "started_at": iso(row["started_at"]),
            "beat_at": iso(row["beat_at"]),
            "clock_offset": row["clock_offset"],
            "held_keys": decoded(row["held"]) if row["held"] else [],
            "lives": now - row["beat_at"] < app.settings.lease,
        }
        for row in (shown_row(node, app.redaction) for node in app.queries.nodes())
        if now - row["beat_at"] < SILENT_NODE  # where no worker lives, none forgets it
    ]


def queue_documents(app: StateJobs) -> list[dict[str, Any]]:
    """Return the queues of the app, and those that hold jobs."""
    now, counts, oldest = app.sources.clock.now(), app.queries.counts(), app.queries.oldest_queued()
    workers = [worker for worker in worker_documents(app) if worker["lives"]]
    return [
        {
            "queue": queue,
            "limit": app.queues.get(queue),
            "states": {state.value: counts.get(queue, {}).get(state, 0) for state in JobState},
            "at_least": [s for s, n in counts.get(queue, {}).items() if isinstance(n, AtLeast)],
            "oldest_queued_at": iso(oldest.get(queue)),
            "oldest_queued_seconds": _age(oldest.get(queue), now),
            "workers": sum(queue in worker["queues"] for worker in workers),
        }
        for queue in _queues(app, counts)
    ]


def record_counts(app: StateJobs) -> tuple[dict[str, dict[str, int]], dict[str, str]]:
    """Return how many records of each resource are in each state.

    Returns:
        The counts by resource, and why those were not counted that cannot be.
    """
    counts: dict[str, dict[str, int]] = {}
    uncounted: dict[str, str] = {}
    for model in app.registry.resources.values():
        try:
            counts[model.name] = _count(app, model)
        except DBAPIError as error:
            if fault_of(error) is not Fault.CODE:
                raise
            uncounted[model.name] = words_of(error)
    return counts, uncounted


def machine_document(spec: MachineSpec) -> dict[str, Any]:
    """Return a graph."""
    return {
        "name": spec.name,
        "states": list(spec.states),
        "initial": spec.initial,
        "final": list(spec.final),
        "edges": [_edge_document(edge) for edge in spec.edges],
    }


def _queues(app: StateJobs, holding: Iterable[str]) -> list[str]:
    named = app.registry.named_queues()
    return list(dict.fromkeys([*app.queues, *named, *sorted(holding)]))


def _attempt_event(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": "attempt", "at": iso(row["finished_at"]), **attempt_document(row)}


def _edge_document(edge: Edge) -> dict[str, Any]:
    return {
        "name": edge.name,
        "kind": edge.kind.value,
        "sources": list(edge.sources),
        "target": edge.target,
        "trigger": edge.trigger,
        "guards": list(edge.guards),
        "doc": edge.doc,
    }


def _count(app: StateJobs, model: ResourceModel) -> dict[str, int]:
    state = getattr(model.cls, model.attribute)
    with app.session() as session:
        rows = session.execute(select(state, func.count()).group_by(state)).all()
    found = {str(member.value): count for member, count in rows}
    return {value: found.get(value, 0) for value in _states(model, found)}


def _states(model: ResourceModel, found: Mapping[str, int]) -> Iterator[str]:
    yield from dict.fromkeys([*model.spec.states, *found])


def _age(since: datetime | None, now: datetime) -> float | None:
    return None if since is None else max((now - since).total_seconds(), 0.0)
