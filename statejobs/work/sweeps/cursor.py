"""How far the records of a timeout were swept, as text."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import msgspec

from statejobs.errors import NotFoundError
from statejobs.record.identity import decode_identity, encode_identity
from statejobs.record.ledger import value_of
from statejobs.record.timeouts import StateTimeout
from statejobs.store.timeouts import Milestone

_Stored = tuple[str, datetime, str]
"""State, since when, and key of a record."""
_decoder = msgspec.json.Decoder(_Stored)


def written(source: enum.Enum, milestone: Milestone) -> str:
    """Return that all up to *milestone* were, in *source*."""
    since = milestone.since.astimezone(UTC)
    stored = (value_of(source), since, encode_identity(milestone.identity))
    return msgspec.json.encode(stored).decode()


def places_after(
    timeout: StateTimeout, cursor: str | None
) -> Iterator[tuple[enum.Enum, Milestone | None]]:
    """Yield the sources in which a sweep goes on, each with where it begins there.

    A cursor that this code does not understand is that of another version: it begins anew.
    """
    sources = timeout.declared.source
    found = _read(timeout, sources, cursor)
    start, milestone = found or (0, None)
    for source in sources[start:]:
        yield source, milestone
        milestone = None


def _read(
    timeout: StateTimeout, sources: Sequence[enum.Enum], cursor: str | None
) -> tuple[int, Milestone] | None:
    if cursor is None:
        return None
    try:
        state, since, record_id = _decoder.decode(cursor)
        identity = decode_identity(timeout.model.mapper, record_id)
        return [value_of(source) for source in sources].index(state), Milestone(
            since, identity
        )
    except (msgspec.DecodeError, NotFoundError, ValueError):
        return None
