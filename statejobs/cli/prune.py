"""`prune`: deletes ended jobs that are old."""

from __future__ import annotations

import re
from datetime import timedelta

import click

from statejobs.cli.settings import Settings, common_options

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def read_age(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> timedelta | None:
    """Return the age that `30d` or `12h` says."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d{1,6})([smhdw])", value.strip())
    if found is None:
        raise click.BadParameter(
            f"cannot read the age {value!r}: it is a number and s, m, h, d or w, "
            "for instance 12h or 30d"
        )
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


@click.command()
@click.option(
    "--older-than",
    metavar="AGE",
    callback=read_age,
    help="Delete every ended job that old, such as 30d or 12h.  [default: the app's retention]",
)
@click.option("--dry-run", is_flag=True, help="Delete nothing, only count.")
@common_options
@click.pass_obj
def prune(settings: Settings, older_than: timedelta | None, dry_run: bool) -> None:  # noqa: FBT001 - click passes it
    """Delete ended jobs that are old; workers do so by themselves.

    Jobs whose record still rests in the failed state of its action stay: a retry continues them.

    \b
    Example:
      statejobs prune --older-than 30d --dry-run
    """  # noqa: D301
    app = settings.load_existing()
    pruned = app.prune(older_than=older_than, dry_run=dry_run)
    counts = {state.value: count for state, count in pruned.jobs.items()}
    if settings.as_json:
        settings.output.json(
            {
                "dry_run": dry_run,
                "jobs": counts,
                "attempts": pruned.attempts,
                "history": pruned.history,
                "ticks": pruned.ticks,
            }
        )
        return
    said = ", ".join(f"{count} {state}" for state, count in counts.items())
    settings.output.text(
        f"{'would delete' if dry_run else 'deleted'} jobs: {said}; "
        f"their attempts: {pruned.attempts}; rows of history: {pruned.history}; "
        f"ticks: {pruned.ticks}"
    )
