"""Which jobs are meant: what people say of them, and the conditions that this makes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

import msgspec
from sqlalchemy import ColumnElement, func, or_, select

from statejobs.errors import NotFoundError, did_you_mean
from statejobs.store.tables import attempts, jobs, literal_state
from statejobs.values.job import JobOutcome, JobState
from statejobs.values.kinds import check_kind, check_text, members_of

M = TypeVar("M", JobState, JobOutcome)


class KnownNames(Protocol):
    """What an app calls its resources, records, keys and queues."""

    def resource(self, given: object) -> str:
        """Return the stored name of a resource."""
        ...

    def records(
        self, resource: str | None, named: object
    ) -> tuple[str | None, list[str]]:
        """Return the resource and the stored keys that *named*, of *resource*, may stand for."""
        ...

    def refuse_unknown(
        self,
        *,
        queue: str | None = None,
        key: str | None = None,
        resource: str | None = None,
        holding: Callable[[], Iterable[str]] = ...,
    ) -> None:
        """Raise `NotFoundError` for a name that nobody knows; *holding* returns queues in use."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which jobs are meant, by stored names; None and () leave it open."""

    states: tuple[JobState, ...] = ()
    outcomes: tuple[JobOutcome, ...] = ()
    queue: str | None = None
    key: str | None = None
    resource: str | None = None
    record_ids: tuple[str, ...] = ()
    """The forms in which the key of one record may be stored."""
    tag: str | None = None
    error: str | None = None
    """Type of what the last attempt raised."""
    before: datetime | None = None
    """When it ended at the latest; was enqueued, while it lives."""
    ids: tuple[int, ...] | None = None

    def conditions(self) -> Iterator[ColumnElement[bool]]:
        """Yield the conditions that a job has to meet."""
        for column, wanted in (
            (jobs.c.queue, self.queue),
            (jobs.c.key, self.key),
            (jobs.c.resource, self.resource),
            (_last_error(), self.error),
        ):
            if wanted is not None:
                yield column == wanted
        for column, allowed in (
            # a bound value would not match the partial indexes
            (jobs.c.state, [*map(literal_state, self.states)] or None),
            (jobs.c.outcome, [outcome.value for outcome in self.outcomes] or None),
            (jobs.c.record_id, self.record_ids or None),
            (jobs.c.id, self.ids),
        ):
            if allowed is not None:
                yield column.in_(allowed)
        if self.tag is not None:
            yield _has_tag(self.tag)
        if self.before is not None:
            yield func.coalesce(jobs.c.finished_at, jobs.c.enqueued_at) < self.before


def filters_of(
    names: KnownNames,
    *,
    where: str,
    states: Sequence[JobState | str] = (),
    outcomes: Sequence[JobOutcome | str] = (),
    queue: str | None = None,
    key: str | None = None,
    resource: str | type | None = None,
    record: object = None,
    tag: str | None = None,
    error: str | None = None,
    before: datetime | None = None,
) -> Filters:
    """Return the filters that people mean.

    Raises:
        NotFoundError: There is no such state or outcome, or no such key of a record.
        WrongValueError: One is of the wrong kind; *where* says which call was given it.
    """
    for name, given, example in (
        ("queue", queue, "default"),
        ("key", key, "order.charge"),
        ("tag", tag, "nightly"),
        ("error", error, "TimeoutError"),
    ):
        if given is not None:
            check_text(f"{where}({name}=…)", given, example=example)
    if before is not None:
        check_kind(f"{where}(before=…)", before, datetime, example="datetime.now(UTC)")
    stored = None if resource is None else names.resource(resource)
    forms: list[str] = []
    if record is not None:
        stored, forms = names.records(stored, record)
    return Filters(
        states=tuple(_member(JobState, "state", state) for state in states),
        outcomes=tuple(_member(JobOutcome, "outcome", one) for one in outcomes),
        queue=queue,
        key=key,
        resource=stored,
        record_ids=tuple(forms),
        tag=tag,
        error=error,
        before=before,
    )


def one_or_many(where: str, given: object, *, example: str) -> tuple[Any, ...]:
    """Return the members that *given* names: one, or a collection of them."""
    if given is None:
        return ()
    if isinstance(given, str):
        return (given,)
    return tuple(members_of(where, given, example=example))


def _member(kind: type[M], what: str, name: M | str) -> M:
    try:
        return kind(name)
    except ValueError:
        known = did_you_mean(str(name), [one.value for one in kind])
        raise NotFoundError(f"no job {what} {name!r}", fix=known) from None


def _has_tag(tag: str) -> ColumnElement[bool]:
    """Return whether a job has *tag*; as text, since what is no JSON would raise."""
    element = msgspec.json.encode(tag).decode()
    places = (f"{before}{element}{after}" for before in "[," for after in ",]")
    # LIKE would not mind the case, on SQLite
    return or_(
        *(func.replace(jobs.c.tags, place, "") != jobs.c.tags for place in places)
    )


def _last_error() -> ColumnElement[Any]:
    """Return the type of what the last attempt of a job raised."""
    return (
        select(attempts.c.error_type)
        .where(attempts.c.job_id == jobs.c.id, attempts.c.error_type.is_not(None))
        .order_by(attempts.c.id.desc())
        .limit(1)
        .correlate(jobs)
        .scalar_subquery()
    )
