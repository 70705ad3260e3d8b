"""The article before a name that somebody else chose, as messages say it."""

from __future__ import annotations

import re

# as they are spoken: an int and an Upload, but a User, a Unique and a one
_VOWEL = re.compile(r"[aei]|o(?!ne)|un(?!i)|up", re.IGNORECASE)


def indefinite(name: str) -> str:
    """Return *name* with its article: `"an int"`, `"a str"`."""
    return f"an {name}" if _VOWEL.match(name) else f"a {name}"
