"""Time zones by their IANA name, and the offsets of one."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from difflib import get_close_matches
from reprlib import repr as short

from statejobs.errors import WrongValueError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_OF_THIS_MACHINE = ("localtime", "posixrules", "posix/", "right/")
_LONGEST = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A time in which the clock of a zone is not changed, in seconds since 1970."""

    since: int
    until: int
    """Where it has ended."""
    offset: int
    """Seconds by which the clock on the wall is ahead of UTC."""
    before: int
    """The offset until *since*."""


def zone_of(name: str, *, where: str) -> tzinfo:
    """Return the zone called *name*.

    Raises:
        WrongValueError: There is none.
    """
    if name == "UTC":
        return UTC  # needs no data
    if not name.startswith(_OF_THIS_MACHINE):
        try:
            return zoneinfo.ZoneInfo(name)
        except (LookupError, ValueError, OSError):
            pass  # a directory, a path out of the data, a character that no name has
    raise _unknown(name, where)


def stretches(zone: tzinfo, since: int, until: int) -> Iterator[Stretch]:
    """Yield what lies between two moments of the clock of *zone*, a day apart at most."""
    # two changes that undo each other would be missed: since 1970 no zone had two in three days
    before = _offset(zone, since - 1)
    offset = _offset(zone, since)
    last = _offset(zone, until - 1)
    while since < until:
        end = until if offset == last else _change(zone, since, until - 1)
        yield Stretch(since=since, until=end, offset=offset, before=before)
        since, before = end, offset
        offset = _offset(zone, since)


def _offset(zone: tzinfo, at: int) -> int:
    ahead = (EPOCH + timedelta(seconds=at)).astimezone(zone).utcoffset()
    return (ahead or timedelta()) // _SECOND


def _change(zone: tzinfo, since: int, until: int) -> int:
    """Return the first second after *since* whose offset is another, by halves."""
    offset = _offset(zone, since)
    while until - since > 1:
        middle = (since + until) // 2
        if _offset(zone, middle) == offset:
            since = middle
        else:
            until = middle
    return until


def _unknown(name: str, where: str) -> WrongValueError:
    known = zoneinfo.available_timezones().difference(_OF_THIS_MACHINE)
    if not known:
        return WrongValueError(
            f"no time zone {short(name)}",
            where=where,
            why="this machine has no data of time zones",
            fix="Install the package tzdata, or say 'UTC'",
        )
    meant = _meant(name, known)
    return WrongValueError(
        f"no time zone {short(name)}",
        where=where,
        why="it is a name of the IANA database",
        fix=f"did you mean {meant!r}?" if meant else "say 'UTC' or 'Europe/Prague'",
    )


def _meant(name: str, known: set[str]) -> str | None:
    """Return the zone with this name, or this city, but for a few letters."""
    wanted = name.lower().replace(" ", "_")
    in_lower = {zone.lower(): zone for zone in sorted(known)}
    cities = {zone.rpartition("/")[2]: zone for zone in in_lower}
    for names in (in_lower, cities):
        for close in get_close_matches(wanted[:_LONGEST], names, n=1, cutoff=0.8):
            return in_lower.get(close) or in_lower[cities[close]]
    return None
