"""What the shell completes: names of the app's resources, queues, keys, and how jobs are."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout

import click
from click.shell_completion import CompletionItem

from statejobs.app import StateJobs
from statejobs.cli.settings import Settings
from statejobs.values.job import JobOutcome, JobState

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def complete(names_of: Callable[[StateJobs], Iterable[str]]) -> Completer:
    """Return what completes one of the names that the app has; nothing is asked of a database."""

    def completed(
        context: click.Context, _parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        settings = context.find_object(Settings) or Settings()
        try:
            with redirect_stdout(sys.stderr):  # what an app prints is no name
                names = list(names_of(settings.import_app()))
        except Exception:  # noqa: BLE001 - no app, or a broken one: the command itself will say so
            return []
        return beginning(incomplete, names)

    return completed


def resource_names(app: StateJobs) -> Iterable[str]:
    """Return the names of its resources."""
    return app.registry.resources


def queue_names(app: StateJobs) -> Iterable[str]:
    """Return the queues that it serves, or that a trigger or task names."""
    return [*app.queues, *app.registry.named_queues()]


def domain_names(app: StateJobs) -> Iterable[str]:
    """Return the names of its domains."""
    return app.registry.domains


def key_names(app: StateJobs) -> Iterable[str]:
    """Return the keys of its triggers and tasks."""
    return app.registry.known_keys()


def job_states(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete a state of jobs."""
    return beginning(incomplete, [state.value for state in JobState])


def job_outcomes(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete a way in which jobs end."""
    return beginning(incomplete, [outcome.value for outcome in JobOutcome])


def beginning(incomplete: str, names: Iterable[str]) -> list[CompletionItem]:
    """Return those of *names* that begin so."""
    begin = incomplete.lower()
    found = dict.fromkeys(name for name in names if name.lower().startswith(begin))
    return [CompletionItem(name) for name in found]
