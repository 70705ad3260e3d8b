"""Arguments as text for people to read: bounded, redacted. Nothing here can fail."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping

import msgspec

from statejobs.domain.argument_values import Place, Survey
from statejobs.domain.text import MASK, clean_text, is_secret_name, shown_text

_SHOWN_BYTES = 8_192


def encode_lossy(values: Mapping[str, object]) -> str:
    """Return *values* as JSON for people to read; never raises.

    Secrets are masked, and what JSON cannot hold is described.
    """
    try:
        if not values:
            return "{}"
        shown = {clean_text(name, 200): _shown(name, value) for name, value in values.items()}
        return json.dumps(shown, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    except BaseException:  # noqa: BLE001 - history must not stop a transition
        return '{"?":"(could not be shown)"}'


def _described(value: object) -> str:
    return shown_text(reprlib.repr(value), 500)


_LOSSY = msgspec.json.Encoder(enc_hook=_described)


def _shown(name: str, value: object) -> object:
    if is_secret_name(str(name)):
        return MASK
    if isinstance(value, str):
        return shown_text(value, _SHOWN_BYTES)
    for show in (_structure, _described):
        try:
            return show(value)
        except BaseException:  # noqa: BLE001, S112 - its methods are the user's; the next is simpler
            continue
    return "(unprintable)"


def _structure(value: object) -> object:
    Survey(left=_SHOWN_BYTES, is_strict=False).visit(value, Place(None, None, ""))
    return _masked(msgspec.json.decode(_LOSSY.encode(value)))


def _masked(value: object) -> object:
    if isinstance(value, dict):
        return {
            clean_text(key, 200): MASK if is_secret_name(str(key)) else _masked(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return shown_text(value, _SHOWN_BYTES) if isinstance(value, str) else value
