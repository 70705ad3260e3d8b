"""Where an error arose, as its traceback says: the last line of code that the user has written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_FRAME = re.compile(r'^[ |]*File "([^"]+)", line (\d+)(?:, in (.+))?$', re.MULTILINE)
_OURS = str(Path(__file__).parents[1])
_OF_OTHERS = ("/site-packages/", "/dist-packages/", "/lib/python", "<frozen ")


@dataclass(frozen=True, slots=True)
class Frame:
    """A line of code."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        """Return it as people read it."""
        return f"{self.file}:{self.line} {self.function}".rstrip()


def last_frame(traceback: str | None) -> Frame | None:
    """Return where *traceback* was last in code of the user's; else where it ends, if it says."""
    frames = [
        Frame(file, int(line), function or "")
        for file, line, function in _FRAME.findall(traceback or "")
    ]
    users = [frame for frame in frames if _is_of_user(frame.file)]
    return next(iter([*users[-1:], *frames[-1:]]), None)


def _is_of_user(file: str) -> bool:
    path = file.replace("\\", "/")
    return not path.startswith(_OURS) and all(part not in path for part in _OF_OTHERS)
