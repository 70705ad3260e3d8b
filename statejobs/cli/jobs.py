"""`job list|show|retry|cancel`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import click
from sqlalchemy.exc import SQLAlchemyError

from statejobs.acting import acting_as
from statejobs.app import StateJobs
from statejobs.cli.completion import (
    complete,
    job_outcomes,
    job_states,
    key_names,
    queue_names,
    resource_names,
)
from statejobs.cli.group import Group, explain
from statejobs.cli.job_text import print_job, print_jobs
from statejobs.cli.problems import Exit, Problem, problem_of
from statejobs.cli.settings import Settings, actor, common_options
from statejobs.errors import NotFoundError, StateJobsError, did_you_mean
from statejobs.people.jobs import job_list, job_page
from statejobs.values.job import Job, JobOutcome, JobState

MOST_LISTED = 1_000_000
M = TypeVar("M", JobState, JobOutcome)


def read_states(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[JobState, ...]:
    """Return the states that were named, or say which one was meant."""
    return tuple(_member(JobState, "state", value) for value in values)


def read_outcomes(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[JobOutcome, ...]:
    """Return the outcomes that were named, or say which one was meant."""
    return tuple(_member(JobOutcome, "outcome", value) for value in values)


def _member(kind: type[M], what: str, value: str) -> M:
    known = [member.value for member in kind]
    if value.lower() not in known:
        raise click.BadParameter(
            f"no job {what} {value!r}; {did_you_mean(value, known)}"
        )
    return kind(value.lower())


@click.group("job", cls=Group)
@common_options
def job_group() -> None:
    """Look at jobs, retry them, cancel them."""


@job_group.command("list")
@click.option(
    "--state",
    "states",
    metavar="STATE",
    multiple=True,
    callback=read_states,
    shell_complete=job_states,
    help="Only jobs in this state; may be given several times.",
)
@click.option(
    "--outcome",
    "outcomes",
    metavar="OUTCOME",
    multiple=True,
    callback=read_outcomes,
    shell_complete=job_outcomes,
    help="Only jobs that ended so; may be given several times.",
)
@click.option(
    "--queue",
    metavar="NAME",
    shell_complete=complete(queue_names),
    help="Only jobs of this queue.",
)
@click.option(
    "--key",
    metavar="KEY",
    shell_complete=complete(key_names),
    help='Only jobs of this trigger or task, for instance "order.charge".',
)
@click.option(
    "--resource",
    metavar="NAME",
    shell_complete=complete(resource_names),
    help="Only jobs of records of this resource.",
)
@click.option(
    "--record", metavar="ID", help="Only jobs of the record with this primary key."
)
@click.option(
    "--limit",
    default=50,
    show_default=True,
    type=click.IntRange(1, MOST_LISTED),
    help="How many.",
)
@common_options
@click.pass_obj
def list_jobs(
    settings: Settings,
    states: tuple[JobState, ...],
    outcomes: tuple[JobOutcome, ...],
    queue: str | None,
    key: str | None,
    resource: str | None,
    record: str | None,
    limit: int,
) -> None:
    """List the newest jobs.

    \b
    Example:
      statejobs job list --state discarded --state failed --queue payments
    """  # noqa: D301
    app = settings.load_existing()
    app.check_tables()
    try:
        found = job_list(
            app.desk,
            states=states,
            outcomes=outcomes,
            queue=queue,
            key=key,
            resource=resource,
            record_id=record,
            limit=limit,
        )
    except NotFoundError as error:
        why = "a list that is empty for a typing error would mislead"
        raise Problem(str(error), why, "statejobs status", Exit.NOT_FOUND) from error
    if settings.as_json:
        settings.output.json(found)
        return
    if not found.jobs:
        settings.output.note("no job matches")
        return
    print_jobs(settings.output, found.jobs, app.desk.now())
    if found.has_more:
        settings.output.note(f"the newest {limit}; more with --limit")


@job_group.command("show")
@click.argument("job_id", metavar="ID", type=int)
@common_options
@click.pass_obj
def show_job(settings: Settings, job_id: int) -> None:
    """Show a job, its attempts, and the history of its record."""
    app = settings.load_existing()
    app.check_tables()
    page = job_page(app.desk, _find(app, job_id))
    if settings.as_json:
        settings.output.json(page)
    else:
        print_job(settings.output, page, app.desk.now())


@job_group.command("retry")
@click.argument("job_ids", metavar="ID...", type=int, nargs=-1, required=True)
@common_options
@click.pass_obj
def retry_jobs(settings: Settings, job_ids: tuple[int, ...]) -> int:
    """Let jobs go on now.

    A job whose record is in its failed state goes through the declared transition that runs its
    trigger, guards and history included.
    """
    app = settings.load_existing()
    app.check_tables()
    return _for_each(settings, app, job_ids, app.retry_job, "retried")


@job_group.command("cancel")
@click.argument("job_ids", metavar="ID...", type=int, nargs=-1, required=True)
@click.option(
    "--reason",
    default="cancelled by a person",
    help="Kept with the job and in history.",
)
@common_options
@click.pass_obj
def cancel_jobs(settings: Settings, job_ids: tuple[int, ...], reason: str) -> int:
    """Cancel waiting jobs; ask running ones to stop.

    The record goes to the failed state of its action, when it has one.
    """
    app = settings.load_existing()
    app.check_tables()
    return _for_each(
        settings,
        app,
        job_ids,
        lambda id_: app.cancel_job(id_, reason=reason),
        "cancelled",
    )


def _for_each(
    settings: Settings,
    app: StateJobs,
    ids: Sequence[int],
    act: Callable[[int], JobState],
    done: str,
) -> int:
    """Do *act* to each job; the exit code is that of the first that failed."""
    results: list[dict[str, Any]] = []
    code = Exit.OK
    for job_id in dict.fromkeys(ids):
        try:
            _find(app, job_id)
            with acting_as(actor()):
                state = act(job_id)
        except (Problem, StateJobsError, SQLAlchemyError) as error:
            problem = problem_of(error)
            if problem is None:
                raise
            explain(problem, replace(settings, as_json=False), error)
            results.append({"id": job_id, "state": None, **problem.document()})
            code = code or problem.code
            continue
        results.append({"id": job_id, "state": state.value, "error": None})
        if not settings.as_json:
            settings.output.text(_said(job_id, state, done))
    if settings.as_json:
        settings.output.json({"jobs": results})
    return code


def _said(job_id: int, state: JobState, done: str) -> str:
    if done == "cancelled" and state is JobState.PROCESSING:
        return f"job {job_id} was asked to stop; it is still {state}"
    return (
        f"job {job_id} {done}; it is {state} now"
        if done != state
        else f"job {job_id} {done}"
    )


def _find(app: StateJobs, job_id: int) -> Job:
    job = app.queries.job(job_id) if job_id < 2**63 else None
    if job is not None:
        return job
    newest = app.queries.jobs(limit=1)
    why = f"the newest job is {newest[0].id}" if newest else "there are no jobs yet"
    raise Problem(f"no job {job_id}", why, "statejobs job list", Exit.NOT_FOUND)
