r"""Control characters as text: what others chose must not steer a terminal, or forge a line.

They are written as Python writes them, `\x1b`. Shown so are, beside control characters, marks that
turn the direction of what follows, invisible ones, separators of lines, and lone surrogates.
"""

from __future__ import annotations

import re

_UNSEEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f"
)
_IN_TEXT = re.compile(f"[{_UNSEEN}]")
_IN_A_LINE = re.compile(f"[\t\n{_UNSEEN}]")


def visible(text: str) -> str:
    """Return *text* without a character that acts, but for ends of lines and tabs."""
    return _IN_TEXT.sub(_escaped, text)


def visible_line(text: str) -> str:
    """Return *text* as one line: ends of lines and tabs are shown as well."""
    return _IN_A_LINE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
