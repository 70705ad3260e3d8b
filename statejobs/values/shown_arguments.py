"""Arguments as text for people to read: bounded, redacted. Nothing here can fail."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from math import isfinite

import msgspec

from statejobs.values.argument_values import Place, Survey
from statejobs.values.redaction import DEFAULT, Redaction
from statejobs.values.secret_values import MASK
from statejobs.values.text import clean_text, shown_text

_SHOWN_BYTES = 8_192
_NAME_BYTES = 200
_MOST_DEPTH = 100


def encode_lossy(values: Mapping[str, object], redaction: Redaction = DEFAULT) -> str:
    """Return *values* as JSON for people to read; never raises.

    Secrets are masked, and what JSON cannot hold is described.
    """
    try:
        if not values:
            return "{}"
        shown = {
            clean_text(name, _NAME_BYTES): _shown(name, value, redaction)
            for name, value in values.items()
        }
        return json.dumps(
            shown, sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )
    except BaseException:  # noqa: BLE001 - history must not stop a transition
        return '{"?":"(could not be shown)"}'


def masked(value: object, redaction: Redaction, depth: int = 0) -> object:
    """Return *value*, which came from JSON, with its secrets masked; as JSON holds it."""
    if depth > _MOST_DEPTH:
        return "(nested too deep)"
    if isinstance(value, dict):
        return {
            clean_text(key, _NAME_BYTES): MASK
            if redaction.hides(str(key))
            else masked(item, redaction, depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [masked(item, redaction, depth + 1) for item in value]
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    return (
        shown_text(value, _SHOWN_BYTES, redaction) if isinstance(value, str) else value
    )


_LOSSY = msgspec.json.Encoder(
    enc_hook=lambda value: clean_text(reprlib.repr(value), 500)
)


def _shown(name: str, value: object, redaction: Redaction) -> object:
    if redaction.hides(str(name)):
        return MASK
    if isinstance(value, str):
        return shown_text(value, _SHOWN_BYTES, redaction)
    for show in (_structure, _described):
        try:
            return show(value, redaction)
        except BaseException:  # noqa: BLE001, S112 - its methods are the user's; the next is simpler
            continue
    return "(unprintable)"


def _structure(value: object, redaction: Redaction) -> object:
    Survey(left=_SHOWN_BYTES, is_strict=False).visit(value, Place(None, None, ""))
    return masked(msgspec.json.decode(_LOSSY.encode(value)), redaction)


def _described(value: object, redaction: Redaction) -> str:
    return shown_text(reprlib.repr(value), 500, redaction)
