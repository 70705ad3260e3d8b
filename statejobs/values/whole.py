"""Whole numbers: True is none, although Python counts it as 1."""

from __future__ import annotations

from typing import TypeGuard


def is_whole(value: object) -> TypeGuard[int]:
    """Return whether *value* is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)
