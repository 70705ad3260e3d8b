"""`job retry|cancel|delete|edit`: what people do to some jobs by id, or to all that match."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import click

from statejobs.cli.completion import complete, queue_names
from statejobs.cli.job_filters import job_filters
from statejobs.cli.jobs_at_hand import Act, Meant, do
from statejobs.cli.settings import Settings, common_options
from statejobs.people.editing import checked_edit
from statejobs.people.selection import BY_HAND

F = TypeVar("F", bound=Callable[..., Any])


def for_many(command: F) -> F:
    """Add ids and filters, and what asks before many jobs are changed."""
    for option in (
        job_filters,
        click.option(
            "--dry-run", is_flag=True, help="Change nothing, only show what is meant."
        ),
        click.option(
            "--yes", is_flag=True, help="Do not ask; needed where nobody can answer."
        ),
        click.argument("ids", metavar="[ID...]", type=int, nargs=-1),
    ):
        command = option(command)
    return command


@click.command("retry")
@for_many
@common_options
@click.pass_obj
def retry_jobs(settings: Settings, /, **meant: Any) -> int:
    """Let jobs go on now, by their ids or all that match.

    A job whose record is in its failed state goes through the declared transition that runs its
    trigger, guards and history included.

    \b
    Example:
      statejobs job retry --key order.charge --state discarded --error TimeoutError
    """  # noqa: D301
    act = Act(
        name="retry",
        done="retried",
        one=lambda app, job_id: app.retry_job(job_id),
        many=lambda jobs, tell: jobs.retry(on_batch=tell),
    )
    return do(settings, act, Meant(**meant))


@click.command("cancel")
@click.option("--reason", default=BY_HAND, help="Kept with the job and in history.")
@for_many
@common_options
@click.pass_obj
def cancel_jobs(settings: Settings, /, reason: str, **meant: Any) -> int:
    """Cancel waiting jobs, and ask running ones to stop.

    They are named by their ids, or are all that match. The record goes to the failed state of its
    action, when it has one.
    """
    act = Act(
        name="cancel",
        done="cancelled",
        one=lambda app, job_id: app.cancel_job(job_id, reason=reason),
        many=lambda jobs, tell: jobs.cancel(reason, on_batch=tell),
    )
    return do(settings, act, Meant(**meant))


@click.command("delete")
@for_many
@common_options
@click.pass_obj
def delete_jobs(settings: Settings, /, **meant: Any) -> int:
    """Delete jobs that do not run, with their attempts.

    They are named by their ids, or are all that match. A record that waits for its job goes to the
    failed state of its action; where there is none, the job stays.
    """
    act = Act(
        name="delete",
        done="deleted",
        one=lambda app, job_id: app.delete_job(job_id),
        many=lambda jobs, tell: jobs.delete(on_batch=tell),
    )
    return do(settings, act, Meant(**meant))


def read_time(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> datetime | None:
    """Return the time that *value* says, with its zone."""
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise click.BadParameter(
            f"cannot read the time {value!r}: it is a day, a time and a zone, for instance "
            "2030-01-31T08:00Z"
        )
    return found


@click.command("edit")
@click.option(
    "--run-at",
    metavar="TIME",
    callback=read_time,
    help="When they shall run, for instance 2030-01-31T08:00Z.",
)
@click.option(
    "--priority",
    type=click.IntRange(0, 9),
    help="0 (first) to 9 (last) inside their queue.",
)
@click.option(
    "--to-queue",
    metavar="NAME",
    shell_complete=complete(queue_names),
    help="The queue to move them to.",
)
@for_many
@common_options
@click.pass_obj
def edit_jobs(
    settings: Settings,
    /,
    run_at: datetime | None,
    priority: int | None,
    to_queue: str | None,
    **meant: Any,
) -> int:
    """Change when, how urgently or where waiting jobs run.

    They are named by their ids, or are all that match.
    """
    if run_at is None and priority is None and to_queue is None:
        raise click.UsageError(
            "nothing to change: give --run-at, --priority or --to-queue"
        )
    changes: dict[str, Any] = {
        "run_at": run_at,
        "priority": priority,
        "queue": to_queue,
    }
    act = Act(
        name="edit",
        done="changed",
        one=lambda app, job_id: app.edit_job(job_id, **changes),
        many=lambda jobs, tell: jobs.edit(**changes, on_batch=tell),
        check=lambda app: checked_edit(app.desk, **changes),
    )
    return do(settings, act, Meant(**meant))
