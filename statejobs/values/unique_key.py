"""The dedupe key of a task's job: what its requests must share, as text."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256

import msgspec

from statejobs.values.argument_values import quoted
from statejobs.values.arguments import Signature
from statejobs.values.unique import Mark

LONGEST = 500
"""Bytes of a key; of what is longer, a digest stands in it."""

_STORED = msgspec.json.Decoder(dict[str, msgspec.Raw])


def names_and_marks(
    by: Sequence[str] | None, parameters: Collection[str]
) -> tuple[list[str], list[str]]:
    """Return which of *by* are arguments, and which are marks.

    A text that is both means the argument. What is neither is returned as a mark.
    """
    if by is None:
        return list(parameters), [Mark.TENANT]
    names = [w for w in by if not isinstance(w, Mark) and w in parameters]
    return names, [str(word) for word in by if word not in names]


class UniqueKeys:
    """Makes the dedupe keys of one task."""

    def __init__(self, by: Sequence[str] | None, signature: Signature) -> None:
        names, marks = names_and_marks(by, signature.parameters)
        self._names = sorted(names)
        self._marks = sorted(marks)
        self._defaults = signature.stored_defaults()

    def shared(self, args: str, marked: Mapping[str, str | None]) -> str:
        """Return what requests must share, as canonical JSON.

        Args:
            args: As they are stored; those left out have their defaults.
            marked: The value of each mark.
        """
        stored = _STORED.decode(args)
        members = []
        for name in self._names:
            text = bytes(stored[name]).decode() if name in stored else None
            text = self._defaults.get(name) if text is None else text
            if text is not None:
                members.append(f"{quoted(name)}:{text}")
        for mark in self._marks:
            value = marked[mark]
            if value is not None:  # no argument is called "@…"
                members.append(f"{quoted(f'@{mark}')}:{quoted(value)}")
        return f"{{{','.join(members)}}}"


def dedupe_key(key: str, shared: str) -> str:
    """Return the dedupe key of a job of the task *key*."""
    whole = f"{key}:{shared}"
    if len(whole.encode()) <= LONGEST:
        return whole
    return f"{key}:{sha256(shared.encode()).hexdigest()}"
