"""`Cron`: a cron expression in a time zone, and when it runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo

from statejobs.errors import WrongValueError
from statejobs.values.clock import FIRST, LAST, utcnow
from statejobs.values.crontab.dialect import objection_to
from statejobs.values.crontab.fields import Fields, fields_of
from statejobs.values.crontab.objection import Objection
from statejobs.values.crontab.walk import runs
from statejobs.values.crontab.words import in_words
from statejobs.values.crontab.zones import zone_of
from statejobs.values.kinds import check_kind, check_text, check_whole

_FAR = timedelta(days=28 * 365.25)
"""In so many years each date has been each weekday, 29 February too."""
_SOME_TIME = datetime(2024, 1, 1, tzinfo=UTC)
"""From here on an expression must run: a fixed time, so that each machine says the same."""
_MENDINGS = 8
_EXAMPLE = "say '0 3 * * *' for 03:00 every day"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """When something runs. Made by `parse`."""

    expression: str
    """As it was written."""
    zone: str
    """IANA name of the zone whose clock it goes by."""
    fields: Fields = field(repr=False, compare=False)
    clock: tzinfo = field(repr=False, compare=False)

    @classmethod
    def parse(cls, expression: str, zone: str = "UTC", *, where: str) -> Cron:
        """Read *expression*.

        Args:
            expression: Five fields, or a nickname such as `@daily`.
            zone: IANA name of the zone whose clock it goes by.
            where: What is told of an error: the option that was given.

        Raises:
            WrongValueError: It is none of ours, it never runs, or there is no such zone.
        """
        check_text(where, expression, example="0 3 * * *")
        check_text(f"{where}: its time zone", zone, example="Europe/Prague")
        clock = zone_of(zone, where=where)
        text = " ".join(filter(None, expression.split(" ")))
        objection = objection_to(text)
        if objection:
            raise _refused(objection, zone, clock, where)
        cron = cls(expression=text, zone=zone, fields=_read(text, where), clock=clock)
        if cron.after(_SOME_TIME) is None:
            raise _never(text, where)
        return cron

    def after(self, at: datetime) -> datetime | None:
        """Return the first run later than *at*, in UTC; None when 28 years have none."""
        _check_aware("Cron.after()", at)
        return next(runs(self.fields, self.clock, at, _plus(at)), None)

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Yield the runs later than *after* and not later than *until*, in UTC."""
        _check_aware("Cron.between()", after)
        _check_aware("Cron.between()", until)
        return runs(self.fields, self.clock, after, until)

    def in_words(self) -> str:
        """Return what it means, for people: `at 09:00, Monday to Friday (Europe/Prague)`."""
        return f"{in_words(self.expression)} ({self.zone})"


def next_times(expression: str, zone: str, after: datetime, n: int) -> list[datetime]:
    """Return the next *n* runs of *expression* later than *after*, in UTC.

    Args:
        expression: Five fields, or a nickname such as `@daily`.
        zone: IANA name of the zone whose clock it goes by.
        after: An aware time.
        n: How many.

    Raises:
        WrongValueError: The expression is none of ours, or a value is of the wrong kind.
    """
    cron = Cron.parse(expression, zone, where="next_times()")
    _check_aware("next_times(after=…)", after)
    check_whole("next_times(n=…)", n)
    return _next(cron.fields, cron.clock, after, n)


def _next(fields: Fields, clock: tzinfo, after: datetime, n: int) -> list[datetime]:
    found: list[datetime] = []
    while len(found) < n:
        run = next(runs(fields, clock, after, _plus(after)), None)
        if run is None:
            break
        found.append(run)
        after = run
    return found


def _read(expression: str, where: str) -> Fields:
    try:
        return fields_of(expression)
    except ValueError as error:
        raise WrongValueError(
            f"{expression!r} is no cron expression",
            where=where,
            why=str(error).splitlines()[-1],
            fix=_EXAMPLE,
        ) from None


def _refused(
    objection: Objection, zone: str, clock: tzinfo, where: str
) -> WrongValueError:
    """Return the error of an *objection*, with what was meant and when that would run."""
    meant = _meant(objection)
    times = _next(fields_of(meant), clock, utcnow(), 3) if meant else []
    fix = objection.fix or _EXAMPLE
    if times:
        shown = [f"{time.astimezone(clock):%Y-%m-%d %H:%M}" for time in times]
        fix = f"did you mean {meant!r}, next at {', '.join(shown)} in {zone}?"
    return WrongValueError(objection.what, where=where, why=objection.why, fix=fix)


def _meant(objection: Objection) -> str | None:
    """Return the expression that was meant: what is refused of it in turn is mended, too."""
    for _ in range(_MENDINGS):
        if objection.instead is None:
            return None
        further = objection_to(objection.instead)
        if further is None:
            return objection.instead
        objection = further
    return None


def _never(expression: str, where: str) -> WrongValueError:
    return WrongValueError(
        f"{expression!r} never runs",
        where=where,
        why="no day of 28 years fits it, or the clock never shows that time",
        fix="say 'L' for the last day of a month, or another time of day",
    )


def _plus(at: datetime) -> datetime:
    """Return the time until which the next run is looked for."""
    return min(max(at, FIRST), LAST - _FAR) + _FAR


def _check_aware(where: str, at: object) -> None:
    check_kind(where, at, datetime, example="datetime.now(UTC)")
    if isinstance(at, datetime) and at.utcoffset() is None:
        raise WrongValueError(
            f"{where} takes an aware time, not {at.isoformat(' ')}",
            why="a schedule goes by the clock of a zone",
            fix="say datetime.now(UTC)",
        )
