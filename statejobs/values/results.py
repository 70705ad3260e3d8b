"""What a task returned, as the JSON that is stored with its job."""

from __future__ import annotations

from statejobs.values.argument_values import NotStorable, json_text

MOST_RESULT = 65_536
"""Bytes of JSON."""


def result_text(value: object) -> str:
    """Return *value* as JSON.

    Raises:
        NotStorable: It has no form in JSON, or is too large.
    """
    text = json_text(value, "what it returned")
    size = len(text.encode())
    if size > MOST_RESULT:
        raise NotStorable(
            f"what it returned takes {size} bytes of JSON, and at most {MOST_RESULT} are stored"
        )
    return text
