"""`schedule`: what runs by the clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import click

from statejobs.acting import acting_by_hand
from statejobs.app import StateJobs
from statejobs.cli.completion import complete
from statejobs.cli.group import Group
from statejobs.cli.output import Output
from statejobs.cli.schedule_next import next_runs
from statejobs.cli.settings import Settings, actor, common_options
from statejobs.people.dry_ticks import ScheduleDryRun
from statejobs.people.schedule_acts import (
    dry_run_schedule,
    pause_schedule,
    resume_schedule,
    run_schedule,
)
from statejobs.people.schedules import (
    NextTick,
    SchedulePage,
    ShownSchedule,
    ShownTick,
    schedule_list,
    schedule_page,
)
from statejobs.values.moments import clock_time, relative, span


def schedule_keys(app: StateJobs) -> Iterator[str]:
    """Yield the keys of its schedules."""
    yield from app.registry.schedules


@click.group("schedule", cls=Group)
@common_options
def schedule_group() -> None:
    """Look at what runs by the clock, pause it, and run it now."""


@schedule_group.command("list")
@common_options
@click.pass_obj
def list_schedules(settings: Settings) -> None:
    """List the schedules: when they tick, and how the last tick went."""
    app = settings.load_existing()
    app.check_tables()
    listed = schedule_list(app.desk)
    if settings.as_json:
        settings.output.json({"schedules": listed})
    elif listed:
        _print_schedules(settings.output, listed, app.desk.now())
    else:
        settings.output.note("no schedules")


@schedule_group.command("show")
@click.argument("key", shell_complete=complete(schedule_keys))
@common_options
@click.pass_obj
def show_schedule(settings: Settings, key: str) -> None:
    """Show a schedule: its next ticks, and its last 20 with why.

    \b
    Example:
      statejobs schedule show order.expire
    """  # noqa: D301
    app = settings.load_existing()
    app.check_tables()
    page = schedule_page(app.desk, key)
    if settings.as_json:
        settings.output.json(page)
    else:
        _print_page(settings.output, page, app.desk.now())


schedule_group.add_command(next_runs)


@schedule_group.command("run")
@click.argument("key", shell_complete=complete(schedule_keys))
@click.option(
    "--dry-run", is_flag=True, help="Change nothing, only say what would become of it."
)
@common_options
@click.pass_obj
def run_now(settings: Settings, key: str, *, dry_run: bool) -> None:
    """Tick now, out of turn; no other tick is moved by that.

    \b
    Example:
      statejobs schedule run order.expire --dry-run
    """  # noqa: D301
    app = settings.load_existing()
    app.check_tables()
    if dry_run:
        would = dry_run_schedule(app.desk, key)
        _tell(settings, key, {"dry_run": True, "would": would}, _would(would))
        return
    with acting_by_hand(actor()):
        tick = run_schedule(app.desk, key)
    _tell(settings, key, {"dry_run": False, "tick": tick}, _became(tick))


@schedule_group.command("pause")
@click.argument("key", shell_complete=complete(schedule_keys))
@common_options
@click.pass_obj
def pause_one(settings: Settings, key: str) -> None:
    """Let a schedule tick no more, whatever code is deployed.

    Jobs that it has made run on.
    """
    app = settings.load_existing()
    app.check_tables()
    with acting_by_hand(actor()):
        shown = pause_schedule(app.desk, key)
    _tell(settings, key, shown, f"paused {_by(shown)}")


@schedule_group.command("resume")
@click.argument("key", shell_complete=complete(schedule_keys))
@common_options
@click.pass_obj
def resume_one(settings: Settings, key: str) -> None:
    """Let a paused schedule tick again, from its next instant on."""
    app = settings.load_existing()
    app.check_tables()
    shown = resume_schedule(app.desk, key)
    _tell(
        settings,
        key,
        shown,
        f"next at {_next(shown.next[:1])}" if shown.next else "goes on",
    )


def _tell(settings: Settings, key: str, document: object, said: str) -> None:
    if settings.as_json:
        settings.output.json(document)
    else:
        settings.output.text(f"{key}: {said}")


def _became(tick: ShownTick) -> str:
    if tick.reason:
        return f"skipped: {tick.reason}"
    if tick.done_at is None:
        return "a tick is begun; workers enqueue the jobs of its records"
    return "a job is enqueued"


def _would(would: ScheduleDryRun) -> str:
    found = _found_by(would)
    if would.reason:
        return f"no job would be enqueued: {would.reason}{found}"
    if not would.records:
        return "a job would be enqueued"
    jobs = "1 job" if would.enqueued == 1 else f"{would.enqueued} jobs"
    listed = ", ".join(would.records)
    more = " …" if would.enqueued > len(would.records) else ""
    return f"{jobs} would be enqueued, of {listed}{more}{found}"


def _found_by(would: ScheduleDryRun) -> str:
    """Say how the database finds the records of a trigger."""
    if not would.plan:
        return ""
    if would.index is not None:
        return f"\nan index finds them: {would.index}"
    return "\nno index finds them: the whole table is read at each tick"


def _print_schedules(
    output: Output, listed: Sequence[ShownSchedule], now: datetime
) -> None:
    output.table(
        ["key", "when", "last tick", "enqueued", "skipped", "lag", "but", "next"],
        [
            [
                one.key,
                one.words or one.cron or "",
                *_last(one.last, now),
                _but(one),
                _next(one.next),
            ]
            for one in listed
        ],
        right=["enqueued", "skipped", "lag"],
        below=["next", "but", "when", "lag", "skipped", "enqueued"],
    )


def _last(tick: ShownTick | None, now: datetime) -> list[object]:
    if tick is None:
        return ["", "", "", ""]
    ago = relative(tick.at, now)
    return [ago, tick.enqueued, tick.skipped, span(tick.lag_seconds)]


def _next(ticks: Sequence[NextTick]) -> str:
    return ", ".join(f"{tick.local} ({clock_time(tick.at)})" for tick in ticks)


def _but(one: ShownSchedule) -> str:
    """Return why it does not tick, or not by this code."""
    if one.paused_at is not None:
        return f"paused {_by(one)}"
    if not one.is_declared:
        return "declared by no running code"
    if one.is_of_other_code:
        return "other code that was started later has it"
    return "" if one.is_started else "no worker was started since it is declared"


def _by(one: ShownSchedule) -> str:
    at = clock_time(one.paused_at)
    return f"since {at} by {one.paused_by}" if one.paused_by else f"since {at}"


def _print_page(output: Output, page: SchedulePage, now: datetime) -> None:
    one = page.schedule
    output.facts(
        {
            "schedule": one.key,
            "when": one.words,
            "cron": one.cron,
            "timezone": one.timezone,
            "next": _next(one.next),
            "but": _but(one),
        }
    )
    if not page.ticks:
        return
    output.title("Ticks")
    output.table(
        ["at (UTC)", "enqueued", "skipped", "lag", "done", "why"],
        [
            [
                clock_time(tick.at),
                tick.enqueued,
                tick.skipped,
                span(tick.lag_seconds),
                "yes" if tick.done_at else f"no, begun {relative(tick.began_at, now)}",
                tick.reason,
            ]
            for tick in page.ticks
        ],
        right=["enqueued", "skipped", "lag"],
        below=["why", "done"],
    )
