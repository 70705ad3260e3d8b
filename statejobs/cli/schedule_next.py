"""`schedule next`: when an expression runs, before anything is declared with it."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import available_timezones

import click
from click.shell_completion import CompletionItem

from statejobs.cli.completion import beginning
from statejobs.cli.job_acts import read_time
from statejobs.cli.output import Output
from statejobs.cli.settings import Settings, json_option
from statejobs.values.clock import utcnow
from statejobs.values.cron import Cron, next_times
from statejobs.values.moments import clock_time, relative


def _zones(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return beginning(incomplete, sorted(available_timezones()))


@click.command("next")
@click.argument("expression", metavar="EXPR")
@click.option(
    "--timezone",
    metavar="ZONE",
    default="UTC",
    show_default=True,
    shell_complete=_zones,
    help="Whose clock it goes by, such as Europe/Prague.",
)
@click.option(
    "--count",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="How many times are shown.",
)
@click.option(
    "--after",
    metavar="TIME",
    callback=read_time,
    help="From when on, for instance 2030-01-31T08:00Z.  [default: now]",
)
@json_option
@click.pass_obj
def next_runs(
    settings: Settings,
    expression: str,
    timezone: str,
    count: int,
    after: datetime | None,
) -> None:
    """Show when the cron expression EXPR runs next; needs no app.

    \b
    Example:
      statejobs schedule next '30 2 * * *' --timezone Europe/Prague
    """  # noqa: D301
    since = after or utcnow()
    cron = Cron.parse(expression, timezone, where="schedule next")
    times = next_times(expression, timezone, since, count)
    if settings.as_json:
        settings.output.json(
            {
                "expression": cron.expression,
                "timezone": cron.zone,
                "in_words": cron.in_words(),
                "next": times,
            }
        )
    else:
        _print_times(settings.output, cron, times, since)


def _print_times(
    output: Output, cron: Cron, times: list[datetime], since: datetime
) -> None:
    output.text(cron.in_words())
    rows = [
        (
            f"{time.astimezone(cron.clock):%a %Y-%m-%d %H:%M %z}",
            clock_time(time),
            relative(time, since),
        )
        for time in times
    ]
    output.table([cron.zone, "in UTC", ""], rows)
