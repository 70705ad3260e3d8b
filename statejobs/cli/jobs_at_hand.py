"""Does to jobs what a command says: to each of those that were named, or to all that match."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import click
from sqlalchemy.exc import SQLAlchemyError

from statejobs.acting import acting_by_hand
from statejobs.app import StateJobs
from statejobs.cli.group import explain
from statejobs.cli.job_filters import select, telling_of_names
from statejobs.cli.job_text import print_handled, print_jobs
from statejobs.cli.problems import Exit, Problem, problem_of
from statejobs.cli.settings import Settings, actor
from statejobs.errors import StateJobsError
from statejobs.people.handled import Handled
from statejobs.people.jobs import all_shown, job_list, with_errors
from statejobs.people.selection import Selection
from statejobs.values.job import Job, JobState

_SHOWN = 5
_TOLD_EVERY = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What a command does to jobs."""

    name: str
    """As it is typed."""
    done: str
    """What a job is then."""
    one: Callable[[StateJobs, int], JobState | None]
    """Does it to one job; returns its state, None when it is no more."""
    many: Callable[[Selection, Callable[[Handled], None]], Handled]
    check: Callable[[StateJobs], object] | None = None
    """Raises, before anything is counted or asked, where it can be done to no job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meant:
    """Which jobs, and whether it is meant."""

    ids: tuple[int, ...]
    filters: dict[str, Any] = field(default_factory=dict)
    yes: bool
    dry_run: bool


def do(settings: Settings, act: Act, meant: Meant) -> int:
    """Do *act* to the jobs that are *meant*; return the exit code."""
    if meant.ids and meant.filters:
        raise click.UsageError("give ids or filters, not both")
    if not (meant.ids or meant.filters):
        raise click.UsageError("name jobs by their ids, or by filters such as --state")
    app = settings.load_existing()
    app.check_tables()
    if act.check is not None:
        act.check(app)
    if meant.ids and meant.dry_run:
        return _show(settings, app, [find(app, job_id) for job_id in meant.ids])
    if meant.ids:
        return _do_to_each(settings, app, act, meant.ids)
    return _do_to_many(settings, app, act, meant)


def _show(settings: Settings, app: StateJobs, jobs: Sequence[Job]) -> int:
    listed = with_errors(app.desk, all_shown(app.desk, jobs))
    if settings.as_json:
        settings.output.json({"dry_run": True, "jobs": listed})
        return Exit.OK
    print_jobs(settings.output, listed, app.desk.now())
    settings.output.note("nothing was changed")
    return Exit.OK


def _do_to_each(
    settings: Settings, app: StateJobs, act: Act, ids: Sequence[int]
) -> int:
    """Do *act* to each job; the exit code is that of the first that failed."""
    results: list[dict[str, Any]] = []
    code = Exit.OK
    for job_id in dict.fromkeys(ids):
        try:
            find(app, job_id)
            with acting_by_hand(actor()):
                state = act.one(app, job_id)
        except (Problem, StateJobsError, SQLAlchemyError) as error:
            problem = problem_of(error)
            if problem is None:
                raise
            explain(problem, replace(settings, as_json=False), error)
            results.append({"id": job_id, "state": None, **problem.document()})
            code = code or problem.code
            continue
        results.append({"id": job_id, "state": state, "error": None})
        if not settings.as_json:
            settings.output.text(_said(job_id, state, act.done))
    if settings.as_json:
        settings.output.json({"jobs": results})
    return code


def _said(job_id: int, state: JobState | None, done: str) -> str:
    if done == "cancelled" and state is JobState.PROCESSING:
        return f"job {job_id} was asked to stop; it is still {state}"
    is_told = state is None or done == state
    return (
        f"job {job_id} {done}" if is_told else f"job {job_id} {done}; it is {state} now"
    )


def _do_to_many(settings: Settings, app: StateJobs, act: Act, meant: Meant) -> int:
    selected = select(app, meant.filters)
    with telling_of_names():
        number = selected.count()
    if meant.dry_run or not number:
        return _show_many(settings, app, selected, number)
    _ask(settings, act, number, meant)
    told = Counts()
    with acting_by_hand(actor()):
        is_whole = _until_interrupted(
            partial(act.many, selected, partial(_tell, settings, told, number))
        )
    if settings.as_json:
        settings.output.json(
            {"matched": number, "interrupted": not is_whole, **_document(told.handled)}
        )
    else:
        print_handled(settings.output, told.handled, act.done)
    if not is_whole:
        settings.output.note(
            "interrupted: what is done stays, and the same again goes on"
        )
        return Exit.INTERRUPTED
    return _code_of(told.handled)


@dataclass(slots=True)
class Counts:
    """What was done so far."""

    handled: Handled = field(default_factory=Handled)


def _until_interrupted(work: Callable[[], object]) -> bool:
    try:
        work()
    except KeyboardInterrupt:
        return False
    return True


def _tell(settings: Settings, told: Counts, number: int, handled: Handled) -> None:
    before, told.handled = told.handled.total, handled
    if handled.total // _TOLD_EVERY > before // _TOLD_EVERY:
        settings.output.note(f"{handled.total} of {number}")


def _show_many(
    settings: Settings, app: StateJobs, selected: Selection, number: int
) -> int:
    found = job_list(app.desk, selected=selected, limit=_SHOWN) if number else None
    if settings.as_json:
        newest = found.jobs if found else ()
        settings.output.json({"matched": number, "dry_run": True, "newest": newest})
        return Exit.OK
    if found is None:
        settings.output.note("no job matches")
        return Exit.OK
    print_jobs(settings.output, found.jobs, app.desk.now())
    shown = f"; the newest {_SHOWN} are shown" if found.has_more else ""
    settings.output.note(
        f"{_jobs(number)} match{_s(number)}{shown}; nothing was changed"
    )
    return Exit.OK


def _ask(settings: Settings, act: Act, number: int, meant: Meant) -> None:
    """Ask whether it is meant, unless that was said.

    Raises:
        Problem: Nobody can answer.
        click.Abort: It is not.
    """
    settings.output.note(f"{_jobs(number)} match{_s(number)}")
    if meant.yes:
        return
    if settings.as_json or not can_be_asked():
        raise Problem(
            f"nothing was done: {_jobs(number)} would be {act.done}",
            "nobody can be asked whether that is meant: there is no terminal, or --json is given",
            "the same with --yes, or with --dry-run to look at them",
            Exit.USAGE,
        )
    click.confirm(
        f"{act.name} {'it' if number == 1 else 'them'}?", abort=True, err=True
    )


def can_be_asked() -> bool:
    """Return whether somebody can answer."""
    return sys.stdin is not None and sys.stdin.isatty()


def _code_of(handled: Handled) -> int:
    if handled.refused:
        return Exit.REFUSED
    return Exit.FAILED if handled.locked else Exit.OK


def _document(handled: Handled) -> dict[str, Any]:
    return {
        "done": handled.done,
        "asked": handled.asked,
        "locked": handled.locked,
        "refused": handled.refused,
    }


def _jobs(number: int) -> str:
    return "1 job" if number == 1 else f"{number} jobs"


def _s(number: int) -> str:
    return "es" if number == 1 else ""


def find(app: StateJobs, job_id: int) -> Job:
    """Return a job.

    Raises:
        Problem: There is no such job.
    """
    job = app.queries.job(job_id) if job_id < 2**63 else None
    if job is not None:
        return job
    newest = app.queries.jobs(limit=1)
    why = f"the newest job is {newest[0].id}" if newest else "there are no jobs yet"
    raise Problem(f"no job {job_id}", why, "statejobs job list", Exit.NOT_FOUND)
