"""`job errors`: what goes wrong, and where."""

from __future__ import annotations

from datetime import timedelta

import click

from statejobs.cli.prune import read_age
from statejobs.cli.settings import Settings, common_options
from statejobs.people.job_errors import MOST_READ, JobErrors, job_errors


@click.command("errors")
@click.option(
    "--since",
    metavar="AGE",
    default="24h",
    show_default=True,
    callback=read_age,
    help="How far back to look, such as 30m, 24h or 7d.",
)
@common_options
@click.pass_obj
def show_errors(settings: Settings, since: timedelta) -> None:
    """Show what goes wrong, and where in your code.

    Attempts that failed are put together by key, error, and the last line of your code in the
    traceback.

    \b
    Example:
      statejobs job errors --since 1h
    """  # noqa: D301
    app = settings.load_existing()
    app.check_tables()
    found = job_errors(app.desk, since=since)
    if settings.as_json:
        settings.output.json(found)
        return
    if not found.groups:
        settings.output.note("no attempt failed")
        return
    _print(settings, found)
    if found.has_more:
        settings.output.note(f"of the newest {MOST_READ} attempts that failed")


def _print(settings: Settings, found: JobErrors) -> None:
    settings.output.table(
        ["attempts", "key", "error", "place", "records", "such as", "message"],
        [
            [
                group.attempts,
                group.key,
                group.error_type,
                group.place,
                group.records or "",
                f"job {group.job_id}",
                group.message,
            ]
            for group in found.groups
        ],
        right=["attempts", "records"],
        below=["message", "place", "such as", "records", "error"],
    )
