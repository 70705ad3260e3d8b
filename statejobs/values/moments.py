"""Moments and lengths of time, for people and for JSON."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(at: datetime | None) -> str | None:
    """Return *at* as ISO-8601 in UTC."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def clock_time(at: datetime | None) -> str:
    """Return *at* for people, in UTC, to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ") if at else ""


def relative(at: datetime | None, now: datetime) -> str:
    """Return how far *at* is from *now*: `3 min ago`, `in 20 s`."""
    if at is None:
        return ""
    seconds = (now - at).total_seconds()
    return f"{span(seconds)} ago" if seconds >= 0 else f"in {span(-seconds)}"


def span(seconds: float) -> str:
    """Return a length of time in its largest unit: `42 s`, `3 min`, `5 h`, `2 d`."""
    if seconds < 10:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
