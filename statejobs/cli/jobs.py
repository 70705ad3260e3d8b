"""`job list|show`, and the group of all that is done to jobs."""

from __future__ import annotations

from typing import Any

import click

from statejobs.cli.group import Group
from statejobs.cli.job_acts import (
    cancel_jobs,
    delete_jobs,
    edit_jobs,
    retry_jobs,
)
from statejobs.cli.job_errors import show_errors
from statejobs.cli.job_filters import job_filters, select, telling_of_names
from statejobs.cli.job_text import print_job, print_jobs
from statejobs.cli.jobs_at_hand import find
from statejobs.cli.settings import Settings, common_options
from statejobs.people.jobs import job_list, job_page

MOST_LISTED = 1_000_000


@click.group("job", cls=Group)
@common_options
def job_group() -> None:
    """Look at jobs, retry, cancel, delete and change them."""


@job_group.command("list")
@job_filters
@click.option(
    "--limit",
    default=50,
    show_default=True,
    type=click.IntRange(1, MOST_LISTED),
    help="How many.",
)
@common_options
@click.pass_obj
def list_jobs(settings: Settings, filters: dict[str, Any], limit: int) -> None:
    """List the newest jobs.

    \b
    Example:
      statejobs job list --state discarded --state failed --queue payments
    """  # noqa: D301
    app = settings.load_existing()
    app.check_tables()
    with telling_of_names():
        found = job_list(app.desk, selected=select(app, filters), limit=limit)
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
    page = job_page(app.desk, find(app, job_id))
    if settings.as_json:
        settings.output.json(page)
    else:
        print_job(settings.output, page, app.desk.now())


for command in (show_errors, retry_jobs, cancel_jobs, delete_jobs, edit_jobs):
    job_group.add_command(command)
