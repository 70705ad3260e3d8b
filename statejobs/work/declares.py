"""What this code declares, told to other nodes; and whether some of them run other code.

A job that this code does not fit may fit theirs, as while a new version is rolled out.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Collection, Mapping
from datetime import timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any

import msgspec
from sqlalchemy import Connection

from statejobs.declare.registry import Registry
from statejobs.store.nodes import read_declarations
from statejobs.values.arguments import Signature
from statejobs.values.clock import Sources

BROKEN_AFTER = timedelta(minutes=10)
"""What does not fit is for no code at all, when no live node's has differed for so long."""


class Part(StrEnum):
    """What a declaration is about."""

    KEYS = "keys"
    """Key → the names and types of its arguments."""
    RESOURCES = "resources"
    """Resource → its states."""


class Declarations:
    """Compares what this node declares with what the others do; safe between threads."""

    def __init__(
        self, registry: Registry, sources: Sources, *, lease: timedelta
    ) -> None:
        """Make one.

        Args:
            registry: What this node declares.
            sources: Says how long nobody has differed.
            lease: A node is dead when it has been silent for longer.
        """
        self._registry = registry
        self._clock = sources.clock
        self._lease = lease
        self._differed_at: dict[tuple[Part, str], float] = {}
        self._lock = threading.Lock()

    @cached_property
    def own(self) -> Mapping[str, Mapping[str, Any]]:
        """What this node declares, as plain JSON."""
        keys = {
            key: _parameters(task.spec.signature)
            for key, task in self._registry.tasks.items()
        }
        for key, (_, bound) in self._registry.triggers.items():
            keys[key] = _parameters(bound.action.signature)
        states = {
            name: list(m.spec.states) for name, m in self._registry.resources.items()
        }
        return {Part.KEYS.value: keys, Part.RESOURCES.value: states}

    def as_json(self, keys: Collection[str] | None = None) -> str:
        """Return it for the row of this node; of *keys* only, where it claims no others."""
        told = dict(self.own)
        if keys is not None:
            declared = self.own[Part.KEYS.value]
            told[Part.KEYS.value] = {key: declared[key] for key in keys}
        return msgspec.json.encode(told, order="deterministic").decode()

    def may_fit_others(self, connection: Connection, part: Part, name: str) -> bool:
        """Return whether what does not fit here may fit another node, now or before long.

        It is so while a live node declares *name* otherwise, and for ten minutes after that; and
        after the first question, since the nodes of a new version may be about to start.
        """
        now = self._clock.monotonic()
        differs = self._differs(connection, part, name)
        with self._lock:
            since = self._differed_at.setdefault((part, name), now)
            if differs:
                since = self._differed_at[part, name] = now
        return now - since < BROKEN_AFTER.total_seconds()

    def _differs(self, connection: Connection, part: Part, name: str) -> bool:
        own = self.own[part.value].get(name)
        alive_since = self._clock.now() - self._lease
        for text in read_declarations(connection, alive_since):
            theirs = _read(text).get(part.value, {})
            if name in theirs and theirs[name] != own:
                return True
        return False


def _parameters(signature: Signature) -> dict[str, str]:
    return {
        p.name: inspect.formatannotation(p.annotation)
        + ("" if p.is_required else " = …")
        for p in signature.parameters.values()
    }


def _read(text: str) -> Mapping[str, Any]:
    """Return what another node declares; nothing when it says so in another form."""
    try:
        return msgspec.json.decode(text, type=dict[str, dict[str, Any]])
    except msgspec.DecodeError:
        return {}
