"""What programs note on a job, as JSON: given with it, and given back as it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from statejobs.errors import WrongValueError
from statejobs.values.argument_values import NotStorable, stored_text
from statejobs.values.kinds import check_mapping
from statejobs.values.unrun import ran

MOST_META = 8_192
"""Bytes of JSON."""
_FIX = "keep dicts, lists, text, numbers, true, false and None in it"


def meta_text(where: str, name: str, value: object) -> str:
    """Return a mapping as the JSON that is stored.

    Raises:
        WrongValueError: It is none, would come back as something else, or is too large.
    """
    check_mapping(f"{where}: {name}", value, example=f"{name}={{'source': 'shop'}}")
    given = dict(value)  # type: ignore[call-overload]
    try:
        text = stored_text(given, name, _DECODER)
    except NotStorable as refused:
        raise WrongValueError(
            refused.why,
            where=where,
            why=f"{name} is stored as JSON",
            fix=refused.fix or _FIX,
        ) from None
    if len(text.encode()) > MOST_META:
        raise WrongValueError(
            f"{name} takes {len(text.encode())} bytes of JSON",
            where=where,
            why=f"it is stored with each job, and read with it: {MOST_META} bytes at most",
            fix=f"store it elsewhere, and keep its key in {name}",
        )
    return text


def stored_meta(
    given: Mapping[str, Any] | Callable[[Any], Mapping[str, Any]],
    *,
    key: str,
    record: object = None,
) -> str:
    """Return what is stored with a job of *key*: checked before, or made from the *record*.

    Raises:
        WrongValueError: The function returned what cannot be stored.
    """
    if callable(given):
        return meta_text(
            f"a job of {key!r}", "meta", ran(given(record), "meta= of", key)
        )
    return _ENCODER.encode(given).decode()


def read_meta(text: str) -> dict[str, Any]:
    """Return what is stored as values.

    Raises:
        ValueError: It is no JSON, or no mapping.
    """
    return _READER.decode(text)


_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_READER = msgspec.json.Decoder(dict[str, Any])
_ENCODER = msgspec.json.Encoder(order="sorted")
