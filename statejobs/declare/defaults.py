"""`Defaults`: what a domain says for those of its triggers and tasks that say nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from statejobs.values.backoff import Backoff
from statejobs.values.job import Job
from statejobs.values.known_options import explain_options
from statejobs.values.option import options_of
from statejobs.values.options import TaskOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """Options of the triggers and tasks of a domain, where they give none themselves.

    What is left out here too is as ours: see `@task`.
    """

    queue: str | None = None
    """Queue of their jobs."""
    priority: int | None = None
    """0 (first) to 9 (last) inside the queue."""
    max_attempts: int | None = None
    """Attempts before a job is discarded."""
    backoff: (
        Backoff
        | timedelta
        | Sequence[timedelta]
        | Callable[[int, BaseException | None], timedelta]
        | None
    ) = None
    """Wait before the next attempt."""
    timeout: timedelta | Callable[[Job], timedelta | None] | None = None
    """How long one attempt may take."""
    tags: Sequence[str] | None = None
    """Words stored with their jobs."""

    def __post_init__(self) -> None:
        """Refuse values that no one can mean.

        Raises:
            DefinitionError: As the option of a task would be refused.
        """
        for name, value in self.given().items():
            kept = options_of(TaskOptions)[name].check("Defaults", name, value)
            object.__setattr__(self, name, kept)

    def given(self) -> Mapping[str, Any]:
        """Return the options that have a default here."""
        names = [n for n, o in options_of(TaskOptions).items() if o.by_domain]
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}


Defaults.__init__ = explain_options()(Defaults.__init__)  # type: ignore[method-assign]
