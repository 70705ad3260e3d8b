"""Timeouts of states: which transitions of which class fire by themselves, and when."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from statejobs.record.ledger import has_moved, value_of
from statejobs.record.model import ResourceModel
from statejobs.record.specs import TransitionSpec

_LONGEST_KEY = 200
_DIGITS = 32


@dataclass(frozen=True, kw_only=True, eq=False)
class StateTimeout:
    """A transition that fires by itself, as the class has it that declares it."""

    model: ResourceModel
    declared: TransitionSpec

    @cached_property
    def key(self) -> str:
        """What its schedule is stored under: `timeout:Order.expire`."""
        cls = self.model.cls
        is_root = not any("__statejobs__" in vars(base) for base in cls.__mro__[1:])
        names = [self.model.name, *([] if is_root else [cls.__name__])]
        key = f"timeout:{'.'.join([*names, self.declared.name])}"
        return key if len(key) <= _LONGEST_KEY else f"timeout:{_digest(key)}"

    @cached_property
    def spec(self) -> str:
        """What tells it from the same timeout in code that is older or newer."""
        sources = sorted(map(value_of, self.declared.source))
        target = value_of(self.declared.target)
        return _digest(repr((self.after.total_seconds(), sources, target)))

    @property
    def after(self) -> timedelta:
        """How long a record is in a source before it fires."""
        assert self.declared.after is not None  # noqa: S101 - it is one that does
        return self.declared.after

    def is_of(self, record: object) -> bool:
        """Return whether the class of *record* has it so, and does not declare it anew."""
        model: ResourceModel = type(record).__statejobs__  # type: ignore[attr-defined]
        return model.transitions.get(self.declared.name) is self.declared


def timeouts_of(models: Iterable[ResourceModel]) -> Iterator[StateTimeout]:
    """Yield the timeouts of *models*, each once: a subclass times out with its base."""
    known = {model.cls: model for model in models}
    for cls, model in known.items():
        bases = [known[base] for base in cls.__mro__[1:] if base in known]
        for declared in model.timeouts:
            if not any(
                base.transitions.get(declared.name) is declared for base in bases
            ):
                yield StateTimeout(model=model, declared=declared)


def due_at(record: Any, declared: TransitionSpec) -> datetime | None:
    """Return when *declared* fires by itself on *record*, as that is stored."""
    model: ResourceModel = type(record).__statejobs__
    if declared.after is None or has_moved(record):
        return None
    if model.members.get(model.kernel.state_of(record)) not in declared.source:
        return None
    since: datetime | None = record.state_changed_at
    return None if since is None else since + declared.after


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
