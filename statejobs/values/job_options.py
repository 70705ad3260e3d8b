"""The options of one job, each declared once: when, where and how urgently it shall run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from reprlib import repr as short
from typing import Annotated, Any

from statejobs.errors import DefinitionError, WrongValueError
from statejobs.values import option_checks as checked
from statejobs.values.backoff import LONGEST
from statejobs.values.clock import FIRST, LAST
from statejobs.values.kinds import check_kind, check_span
from statejobs.values.option import Check, Option, check_options, options_of
from statejobs.values.whole import is_whole

_LAST_PRIORITY = 9
_DECLARED = "that of its trigger or task"


def checked_instant(where: str, name: str, value: Any) -> datetime | None:
    """Check when a job shall run."""
    if value is None:
        return None
    example = "run_at=datetime.now(UTC) + timedelta(hours=1)"
    check_kind(f"{where}({name}=…)", value, datetime, example=example)
    if value.tzinfo is None:
        raise WrongValueError(
            f"{name} {value!r} has no time zone",
            why="its instant is unknown",
            fix="say datetime(…, tzinfo=UTC)",
        )
    kept: datetime = value
    return kept


def _delay(where: str, name: str, value: Any) -> timedelta | None:
    check_span(f"{where}({name}=…)", value, or_none=True)
    if value is not None and value < timedelta():
        raise WrongValueError(
            f"{name} {value} is negative", fix="leave it out to run at once"
        )
    kept: timedelta | None = value
    return kept


def checked_priority(where: str, name: str, value: Any) -> int | None:
    """Check the priority of one job."""
    if value is None:
        return None
    if not is_whole(value):
        raise WrongValueError(
            f"{where}({name}=…) must be a whole number, not {short(value)}",
            fix=f"say {name}=5",
        )
    if not 0 <= value <= _LAST_PRIORITY:
        raise WrongValueError(
            f"{name} {value} is not between 0 (first) and {_LAST_PRIORITY} (last)",
            fix="give one of these, or leave it out",
        )
    kept: int = value
    return kept


def _of_one_job(check: Check) -> Check:
    """Let a check of declarations serve one job, of which None says nothing."""

    def checked_once(where: str, name: str, value: Any) -> Any:
        if value is None:
            return None
        try:
            return check(where, name, value)
        except DefinitionError as refused:
            raise WrongValueError(
                refused.what, where=f"{where}(…)", why=refused.why, fix=refused.fix
            ) from None

    return checked_once


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """When, where and how urgently one job shall run, and what is noted on it."""

    run_at: Annotated[
        datetime | None,
        Option("when it shall run, with a time zone", checked_instant, shown="now"),
    ] = None
    delay: Annotated[
        timedelta | None,
        Option("how long it shall wait, in place of `run_at`", _delay),
    ] = None
    priority: Annotated[
        int | None,
        Option(
            "0 (first) to 9 (last) inside the queue",
            checked_priority,
            shown=_DECLARED,
        ),
    ] = None
    queue: Annotated[
        str | None,
        Option("queue of the job", _of_one_job(checked.queue), shown=_DECLARED),
    ] = None
    tags: Annotated[
        Sequence[str] | None,
        Option(
            "words stored with it, for people to filter by",
            _of_one_job(checked.tags),
            shown="those of its trigger or task",
        ),
    ] = None
    meta: Annotated[
        Mapping[str, Any] | None,
        Option(
            "what programs note on it, as JSON: a mapping, at most 8 kB",
            _of_one_job(checked.meta()),
            shown=_DECLARED,
        ),
    ] = None
    max_attempts: Annotated[
        int | None,
        Option(
            "attempts before it is discarded, and further ones after a retry",
            _of_one_job(checked.tried),
            shown="those of its trigger or task",
        ),
    ] = None

    def __post_init__(self) -> None:
        """Refuse contradictions."""
        check_options(self, "options")
        if self.run_at is not None and self.delay is not None:
            raise WrongValueError(
                "run_at and delay are both given",
                why="each says when the job is due",
                fix="give run_at or delay, not both",
            )

    def but(self, chosen: JobOptions) -> JobOptions:
        """Return these, but for what is *chosen*."""
        if self is AT_ONCE:
            return chosen
        names = options_of(JobOptions)
        values = {name: getattr(chosen, name) for name in names}
        return replace(self, **{k: v for k, v in values.items() if v is not None})

    def due(self, now: datetime) -> datetime:
        """Return when the job shall run, as a time that every database can store and return."""
        if self.run_at is not None:
            return max(FIRST, min(self.run_at, LAST))
        return now + min(self.delay or timedelta(), LONGEST)


AT_ONCE = JobOptions()
"""Those of a job of which nothing is said."""
