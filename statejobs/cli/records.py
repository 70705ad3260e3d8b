"""`record show`: where a record is, what it could do, and how it came there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from statejobs.app import StateJobs
from statejobs.cli.completion import complete, resource_names
from statejobs.cli.documents import job_document, last_errors, timeline
from statejobs.cli.group import Group
from statejobs.cli.job_text import print_history, print_jobs
from statejobs.cli.problems import Exit, Problem, first_line, not_found
from statejobs.cli.settings import Settings, common_options
from statejobs.errors import NotFoundError
from statejobs.resource.identity import encode_identity
from statejobs.resource.model import ResourceModel
from statejobs.resource.named import key_named
from statejobs.store.faults import Fault, fault_of, sqlstate_of
from statejobs.values.job import LIVE, Job, JobState
from statejobs.values.moments import clock_time, iso
from statejobs.values.shown import shown_job
from statejobs.work.records.stuck import is_stuck

_OUT_OF_RANGE = "22003"


@click.group("record", cls=Group)
@common_options
def record_group() -> None:
    """Look at records."""


@record_group.command("show")
@click.argument("resource", shell_complete=complete(resource_names))
@click.argument("record_id", metavar="ID")
@common_options
@click.pass_obj
def show_record(settings: Settings, resource: str, record_id: str) -> None:
    """Show a record: state, transitions, jobs and timeline.

    \b
    Examples:
      statejobs record show Order 42
      statejobs record show Line '[42, "a"]'     a key of several columns
    """  # noqa: D301
    app = settings.load_existing()
    app.check_tables()
    model = find_resource(app, resource)
    identity = parse_identity(app, model, record_id)
    with app.session() as session:
        record: Any = _get(session, model, identity)
        if record is None:
            raise Problem(
                f"no {model.name} {record_id}",
                f"the table {model.table.name} has no such row",
                f"statejobs job list --resource {model.name} --record {record_id}",
                Exit.NOT_FOUND,
            )
        document = _record_document(app, model, record)
    if settings.as_json:
        settings.output.json(document)
        return
    _print_record(settings, app, document)


def _get(session: Session, model: ResourceModel, identity: tuple[Any, ...]) -> Any:
    """Return a record; None when there is none."""
    try:
        return session.get(model.cls, identity)
    except OverflowError:
        return None  # no key is that large
    except Exception as error:
        if isinstance(error, SQLAlchemyError) and fault_of(error) is not Fault.ROW:
            raise
        if isinstance(error, SQLAlchemyError) and sqlstate_of(error) == _OUT_OF_RANGE:
            return None
        raise Problem(
            f"{model.name} {encode_identity(identity)} cannot be read",
            first_line(error),
            f"mend its row in the table {model.table.name}",
            Exit.FAILED,
        ) from error


def find_resource(app: StateJobs, name: str) -> ResourceModel:
    """Return a resource by its name, or say which one was meant."""
    try:
        return app.registry.resource(name)
    except NotFoundError:
        raise not_found("resource", name, app.registry.resources, look="statejobs status") from None


def parse_identity(app: StateJobs, model: ResourceModel, text: str) -> tuple[Any, ...]:
    """Return the primary key that a person typed: JSON, or plain text."""
    try:
        return key_named(model, text, app.engine.dialect)
    except NotFoundError:
        columns = model.mapper.primary_key
    shape = ", ".join(f"{column.name} ({column.type.python_type.__name__})" for column in columns)
    example = "42" if len(columns) == 1 else """'[42, "a"]'"""
    raise Problem(
        f"{text!r} is not a key of {model.name}",
        f"its primary key is {shape}",
        f"statejobs record show {model.name} {example}",
        Exit.NOT_FOUND,
    )


def _record_document(app: StateJobs, model: ResourceModel, record: Any) -> dict[str, Any]:
    record_id = encode_identity(model.mapper.primary_key_from_instance(record))
    transitions = [
        {
            "name": edge.name,
            "target": edge.target,
            "trigger": edge.trigger,
            "available": not reasons,
            "why_not": list(reasons),
        }
        for edge in model.spec.transitions
        for reasons in [_why_not(model, record, edge.name)]
    ]
    jobs = _jobs_of(app, model.name, record_id)
    return {
        "resource": model.name,
        "record_id": record_id,
        "state": model.kernel.state_of(record),
        "state_version": record.state_version,
        "state_changed_at": iso(record.state_changed_at),
        "is_final": model.kernel.state_of(record) in model.spec.final,
        "transitions": transitions,
        "obstacle": _why_nothing_runs(model, model.kernel.state_of(record), jobs),
        "jobs": [job_document(job) for job in jobs],
        "timeline": timeline(app, model.name, record_id),
    }


def _jobs_of(app: StateJobs, resource: str, record_id: str) -> list[Job]:
    jobs = app.queries.jobs(resource=resource, record_id=record_id)
    return [shown_job(job, app.redaction) for job in jobs]


def _why_nothing_runs(model: ResourceModel, state: str, jobs: Sequence[Job]) -> str | None:
    """Say that a record rests in a state that promises a job, and has none that will run."""
    for bound in model.triggers.values():
        ended = next((j for j in jobs if j.key in {bound.key, *bound.aliases}), None)
        runs = any(job.state is JobState.PROCESSING for job in jobs)
        if ended is not None and not runs and is_stuck(bound, ended, state):
            return (
                f"it is stuck in {state!r}: job {ended.id} of {bound.key!r} is {ended.state} "
                f"({ended.reason}). Move it back and let the job go on with: "
                f"statejobs job retry {ended.id}"
            )
    for key in model.spec.promised_by(state):
        bound = model.triggers[key]
        mine = [job for job in jobs if job.key in {key, *bound.aliases}]
        if any(job.state in LIVE for job in mine):
            continue
        if mine and mine[0].state is JobState.COMPLETED and bound.target == state:
            continue  # it has run, and leaves the record where it was
        if not mine:
            return f"it waits in {state!r} for a job of {key!r}, and there is none"
        last = mine[0]
        why = f" ({last.reason})" if last.reason else ""
        return (
            f"it waits in {state!r}, and nothing runs: job {last.id} of {key!r} is "
            f"{last.state}{why}. Let it go on with: statejobs job retry {last.id}"
        )
    return None


def _why_not(model: ResourceModel, record: Any, name: str) -> tuple[str, ...]:
    try:
        return model.kernel.why_not(record, name)
    except Exception as error:  # noqa: BLE001 - a guard of the user's; the others are still of use
        return (f"its guard raised {type(error).__name__}: {error}",)


def _print_record(settings: Settings, app: StateJobs, document: dict[str, Any]) -> None:
    output = settings.output
    jobs = _jobs_of(app, document["resource"], document["record_id"])
    changed = document["state_changed_at"]
    final = ", final" if document["is_final"] else ""
    output.facts(
        {
            "record": f"{document['resource']} {document['record_id']}",
            "state": document["state"] + final,
            "version": document["state_version"],
            "since": changed and clock_time(datetime.fromisoformat(changed)),
            "but": document["obstacle"],
        }
    )
    output.title("Transitions")
    output.table(
        ["", "name", "to", "runs", "why not"],
        [
            [
                "✓" if edge["available"] else "✗", edge["name"], edge["target"],
                edge["trigger"], " ".join(edge["why_not"]),
            ]
            for edge in document["transitions"]
        ],
        below=["why not", "runs"],
    )  # fmt: skip
    if jobs:
        output.title("Jobs")
        print_jobs(output, jobs, app.sources.clock.now(), last_errors(app, jobs))
    if document["timeline"]:
        output.title("Timeline")
        print_history(output, document["timeline"], app.sources.clock.now())
