"""The filters by which commands name many jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar

import click

from statejobs.app import StateJobs
from statejobs.cli.completion import (
    complete,
    job_outcomes,
    job_states,
    key_names,
    queue_names,
    resource_names,
)
from statejobs.cli.problems import Exit, Problem
from statejobs.cli.prune import read_age
from statejobs.errors import NotFoundError, did_you_mean
from statejobs.people.selection import Selection
from statejobs.values.job import JobOutcome, JobState

F = TypeVar("F", bound=Callable[..., Any])
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


def job_filters(command: F) -> F:
    """Add the filters; *command* is given `filters`, as `StateJobs.select` takes them."""

    @wraps(command)
    def filtered(*args: Any, **options: Any) -> Any:
        given = {name: options.pop(name) for name in _NAMES}
        filters = {
            name: value for name, value in given.items() if value not in {None, ()}
        }
        return command(*args, filters=filters, **options)

    for option in reversed(_FILTERS):
        filtered = option(filtered)
    return filtered  # type: ignore[return-value]


def select(app: StateJobs, filters: dict[str, Any]) -> Selection:
    """Return the jobs that *filters* mean."""
    with telling_of_names():
        return app.select(**filters)


class telling_of_names:  # noqa: N801 - a context manager
    """Says of a name that nobody knows why it is refused."""

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, _kind: object, error: BaseException | None, _where: object
    ) -> None:
        """Raise in its place what people see."""
        if isinstance(error, NotFoundError):
            why = "a list that is empty for a typing error would mislead"
            raise Problem(
                str(error), why, "statejobs status", Exit.NOT_FOUND
            ) from error


_FILTERS: Sequence[Callable[[Any], Any]] = (
    click.option(
        "--state",
        metavar="STATE",
        multiple=True,
        callback=read_states,
        shell_complete=job_states,
        help="Only jobs in this state; may be given several times.",
    ),
    click.option(
        "--outcome",
        metavar="OUTCOME",
        multiple=True,
        callback=read_outcomes,
        shell_complete=job_outcomes,
        help="Only jobs that ended so; may be given several times.",
    ),
    click.option(
        "--queue",
        metavar="NAME",
        shell_complete=complete(queue_names),
        help="Only jobs of this queue.",
    ),
    click.option(
        "--key",
        metavar="KEY",
        shell_complete=complete(key_names),
        help='Only jobs of this trigger or task, for instance "order.charge".',
    ),
    click.option(
        "--resource",
        metavar="NAME",
        shell_complete=complete(resource_names),
        help="Only jobs of records of this resource.",
    ),
    click.option(
        "--record", metavar="ID", help="Only jobs of the record with this primary key."
    ),
    click.option("--tag", metavar="WORD", help="Only jobs with this tag."),
    click.option(
        "--error",
        metavar="TYPE",
        help='Only jobs whose last error was of this type, for instance "TimeoutError".',
    ),
    click.option(
        "--older-than",
        metavar="AGE",
        callback=read_age,
        help="Only jobs that ended so long ago, such as 30d or 12h; while they live, that were "
        "enqueued so long ago.",
    ),
)
_NAMES = (
    "state",
    "outcome",
    "queue",
    "key",
    "resource",
    "record",
    "tag",
    "error",
    "older_than",
)
