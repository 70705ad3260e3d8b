"""`record show`: where a record is, what it could do, and how it came there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from statejobs.app import StateJobs
from statejobs.cli.completion import complete, resource_names
from statejobs.cli.group import Group
from statejobs.cli.job_text import print_history, print_jobs
from statejobs.cli.output import Output
from statejobs.cli.problems import Exit, Problem, not_found
from statejobs.cli.settings import Settings, common_options
from statejobs.errors import NotFoundError
from statejobs.people.desk import Desk
from statejobs.people.jobs import with_errors
from statejobs.people.machines import ShownPromise
from statejobs.people.named import key_named
from statejobs.people.records import RecordPage, ShownTransition, record_page
from statejobs.record.model import ResourceModel
from statejobs.values.moments import clock_time, span


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
    page = _find(app, model, identity, record_id)
    if settings.as_json:
        settings.output.json(page)
    else:
        _print_record(settings.output, app.desk, page)


def _find(
    app: StateJobs, model: ResourceModel, identity: tuple[Any, ...], typed: str
) -> RecordPage:
    page = record_page(app.desk, model, identity)
    if page is not None:
        return page
    raise Problem(
        f"no {model.name} {typed}",
        f"the table {model.table.name} has no such row",
        f"statejobs job list --resource {model.name} --record {typed}",
        Exit.NOT_FOUND,
    )


def find_resource(app: StateJobs, name: str) -> ResourceModel:
    """Return a resource by its name, or say which one was meant."""
    try:
        return app.registry.resource(name)
    except NotFoundError:
        raise not_found(
            "resource", name, app.registry.resources, look="statejobs status"
        ) from None


def parse_identity(app: StateJobs, model: ResourceModel, text: str) -> tuple[Any, ...]:
    """Return the primary key that a person typed: JSON, or plain text."""
    try:
        return key_named(model, text, app.engine.dialect)
    except NotFoundError:
        columns = model.mapper.primary_key
    shape = ", ".join(
        f"{column.name} ({column.type.python_type.__name__})" for column in columns
    )
    example = "42" if len(columns) == 1 else """'[42, "a"]'"""
    raise Problem(
        f"{text!r} is not a key of {model.name}",
        f"its primary key is {shape}",
        f"statejobs record show {model.name} {example}",
        Exit.NOT_FOUND,
    )


def _print_record(output: Output, desk: Desk, page: RecordPage) -> None:
    output.facts(
        {
            "record": f"{page.resource} {page.record_id}",
            "state": f"{page.state}, final" if page.is_final else page.state,
            "version": page.state_version,
            "since": clock_time(page.state_changed_at),
            "but": page.obstacle,
        }
    )
    output.title("Transitions")
    _print_ways(output, page.transitions)
    if page.jobs:
        output.title("Jobs")
        print_jobs(output, with_errors(desk, page.jobs), desk.now())
    if page.timeline:
        output.title("Timeline")
        print_history(output, page.timeline, desk.now())


def _run(promise: ShownPromise) -> str:
    """Return what a move runs."""
    return (
        f"{promise.key} after {span(promise.delay)}" if promise.delay else promise.key
    )


def _print_ways(output: Output, ways: Sequence[ShownTransition]) -> None:
    output.table(
        ["", "name", "to", "runs", "why not"],
        [
            [
                "✓" if way.available else "✗",
                way.name,
                way.target,
                ", ".join(map(_run, way.runs)),
                " ".join(way.why_not),
            ]
            for way in ways
        ],
        below=["why not", "runs"],
    )
