"""`Unique`: what two requests must share to be one, for how long, and what then becomes of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, cast

from statejobs.errors import DefinitionError, did_you_mean
from statejobs.values.job import WAITING, JobState
from statejobs.values.kinds import check_kind, words_of
from statejobs.values.known_options import explain_options
from statejobs.values.option import Option, check_options
from statejobs.values.option_checks import one_of, span

OnConflict = Literal["skip", "replace", "raise", "run_again"]
"""What becomes of a request while a job has its key."""
Replaceable = Literal["args", "run_at", "priority", "meta", "tags", "actor"]
"""What a request may overwrite of the job that waits."""
Replaced = tuple[tuple[JobState, tuple[str, ...]], ...]
"""For each state of the waiting job, what is overwritten."""

_FIELDS = ("args", "run_at", "priority", "meta", "tags", "actor")
_CONFLICTS = ("skip", "replace", "raise", "run_again")


class Mark(StrEnum):
    """What requests may share beside arguments."""

    QUEUE = "queue"
    TENANT = "tenant"
    ACTOR = "actor"


def _by(where: str, name: str, value: Any) -> tuple[str, ...] | None:
    """Return names of arguments, and marks; a task compares them with its parameters."""
    if value is None:
        return None
    words = words_of(f"{where}: {name}=", value, example='["customer"]')
    for place, word in enumerate(words):
        if word in words[:place]:
            raise DefinitionError(
                where,
                f"{name} names {str(word)!r} twice",
                why="requests share a value, or do not",
                fix="leave out one of them",
            )
    return words


def _replace(where: str, name: str, value: Any) -> Replaced:
    """Return for each waiting state what is replaced in it."""
    given: Mapping[Any, Any]
    if isinstance(value, tuple) and all(isinstance(part, tuple) for part in value):
        given = dict(value)  # as it was returned before
    elif isinstance(value, Mapping):
        for state in value:
            _refuse_other_state(where, name, state)
        given = {JobState(state): fields for state, fields in value.items()}
    else:
        given = dict.fromkeys(WAITING, value)
    found = []
    for state, fields in given.items():
        names = words_of(f"{where}: {name}=", fields, example='["args"]')
        for field in names:
            _refuse_other_field(where, name, field)
        if names:
            found.append((state, names))
    return tuple(found)


def _refuse_other_state(where: str, name: str, state: object) -> None:
    if state in WAITING:
        return
    known = ", ".join(f"JobState.{waiting.name}" for waiting in WAITING)
    raise DefinitionError(
        where,
        f"{name} maps {state!r}, which is no state in which a job waits",
        why="only a job that has not begun takes other values",
        fix=f"map {known}",
    )


def _refuse_other_field(where: str, name: str, field: str) -> None:
    if field in _FIELDS:
        return
    raise DefinitionError(
        where,
        f"{name} names {field!r}, which no request replaces",
        why="key, queue and record of a job stay what they are",
        fix=did_you_mean(field, _FIELDS),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Unique:
    """At most one job for each key, made of what requests share."""

    QUEUE: ClassVar[Mark] = Mark.QUEUE
    """The queue, among what `by` names."""
    TENANT: ClassVar[Mark] = Mark.TENANT
    """The tenant, among what `by` names."""
    ACTOR: ClassVar[Mark] = Mark.ACTOR
    """The actor, among what `by` names."""

    by: Annotated[
        Sequence[str] | None,
        Option(
            "arguments that two requests must share, and marks: `Unique.QUEUE`, "
            "`Unique.TENANT`, `Unique.ACTOR`; `()` allows one job for the whole task. "
            "Refused for a trigger, whose jobs share their record",
            _by,
            shown="all arguments and the tenant",
        ),
    ] = None
    period: Annotated[
        timedelta | None,
        Option(
            "how long the key is held from `enqueued_at` on, also when the job has "
            "completed; without it, while the job lives. A trigger must have one",
            span(
                why="the key would be free before anybody asks again",
                fix="give a positive timedelta, or leave it out to hold the key while "
                "the job lives",
            ),
        ),
    ] = None
    while_: Annotated[
        Literal["live", "waiting"],
        Option(
            '`"live"`: until the job has ended. `"waiting"`: until it is claimed, so that '
            "a request that is made while it runs makes a new job",
            one_of("live", "waiting"),
        ),
    ] = "live"
    on_conflict: Annotated[
        OnConflict,
        Option(
            'what a request does while a job has the key: `"skip"` keeps that job, '
            '`"replace"` overwrites fields of it while it waits, `"raise"` raises '
            '`DuplicateJobError`, `"run_again"` gives it the new arguments and time, and '
            "queues it once more when it runs",
            one_of(*_CONFLICTS),
        ),
    ] = "skip"
    replace: Annotated[
        Sequence[Replaceable] | Mapping[JobState, Sequence[Replaceable]],
        Option(
            'what `on_conflict="replace"` overwrites: `"args"`, `"run_at"`, `"priority"`, '
            '`"meta"`, `"tags"`, `"actor"`; or a mapping of the state of the job that '
            'waits to these, such as `{JobState.SCHEDULED: ["run_at"]}`',
            _replace,
        ),
    ] = ()

    def __post_init__(self) -> None:
        """Refuse values that no one can mean, and pairs that contradict each other."""
        check_options(self, "Unique")
        if self.replaced and self.on_conflict != "replace":
            raise DefinitionError(
                "Unique",
                f"replace= is given, and on_conflict={self.on_conflict!r}",
                why="nothing would be replaced",
                fix="say on_conflict='replace', or leave out replace=",
            )
        if self.on_conflict == "replace" and not self.replaced:
            raise DefinitionError(
                "Unique",
                "on_conflict='replace', and replace= names nothing",
                why="the job that waits would stay as it is",
                fix="name what is overwritten: replace=['args', 'run_at']; or leave out "
                "on_conflict",
            )
        if self.while_ == "waiting":
            self._check_waiting()

    @property
    def replaced(self) -> Replaced:
        """What `replace` stands for."""
        return cast("Replaced", self.replace)  # as its check returned it

    def _check_waiting(self) -> None:
        if self.period is not None:
            raise DefinitionError(
                "Unique",
                "period= is given, and while_='waiting'",
                why="a period holds the key when the job has run, and 'waiting' frees it "
                "when the job begins",
                fix="leave out one of them",
            )
        if self.on_conflict == "run_again":
            raise DefinitionError(
                "Unique",
                "on_conflict='run_again', and while_='waiting'",
                why="the key is free while the job runs, so a request makes a new job",
                fix="leave out one of them",
            )


Unique.__init__ = explain_options()(Unique.__init__)  # type: ignore[method-assign]


def of_task(where: str, name: str, value: Any) -> Unique | None:
    """Return what makes the jobs of a task unique."""
    return None if value is None else _unique(where, name, value)


def of_trigger(where: str, name: str, value: Any) -> Unique | None:
    """Return what makes the jobs of a trigger unique: its record, for a period."""
    if value is None:
        return None
    unique = _unique(where, name, value)
    if unique.by is not None:
        raise DefinitionError(
            where,
            f"its Unique has by={list(map(str, unique.by))!r}",
            why="the jobs of a trigger share their record, and nothing else",
            fix="leave out by=",
        )
    if unique.period is None:
        raise DefinitionError(
            where,
            "its Unique has no period",
            why="a trigger and a record have at most one open job already",
            fix="say how long none may follow it: Unique(period=timedelta(days=1)); or "
            "leave out unique=",
        )
    return unique


def _unique(where: str, name: str, value: Any) -> Unique:
    check_kind(f"{where}: {name}", value, Unique, example=f"{name}=Unique()")
    kept: Unique = value
    return kept


def held_until(unique: Unique | None, now: datetime) -> datetime | None:
    """Return until when a job that is enqueued *now* holds its key, also when it completed."""
    if unique is None or unique.period is None:
        return None
    return now + unique.period


def is_duplicate(
    unique: Unique, state: JobState, *, until: datetime | None, now: datetime
) -> bool:
    """Return whether a request is one while a job in *state* has its key, and stays as it is."""
    if state is JobState.PROCESSING:
        return unique.while_ == "live" and unique.on_conflict != "run_again"
    if state is JobState.COMPLETED:
        return unique.period is not None and until is not None and until > now
    if unique.on_conflict == "replace":
        return state in WAITING and state not in dict(unique.replaced)
    return state in WAITING and unique.on_conflict != "run_again"
