"""Where a resource or a task belongs: the domain whose defaults hold for what it leaves out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Protocol, TypeVar
from weakref import WeakSet

from statejobs.errors import DefinitionError
from statejobs.values.option import options_of
from statejobs.values.options import TaskOptions

W = TypeVar("W", bound=TaskOptions)


class Relies(Protocol):
    """What holds options that the domain decides on."""

    def forget_options(self) -> None:
        """Let them be asked for again."""
        ...


@dataclass(frozen=True, slots=True)
class _Given:
    """What a domain gives."""

    domain: str
    defaults: Mapping[str, Any]


class Home:
    """The domain of one resource with its subclasses, or of one task, once there is one."""

    def __init__(self) -> None:
        self._given: _Given | None = None
        self._relying: WeakSet[Relies] = WeakSet()

    def rely(self, holder: Relies) -> None:
        """Let *holder* know when there are other defaults."""
        self._relying.add(holder)

    def take(self, where: str, domain: str, defaults: Mapping[str, Any]) -> None:
        """Let the *defaults* of *domain* hold; those without any change nothing.

        Raises:
            DefinitionError: Others hold already.
        """
        if not defaults:
            return
        before = self._given
        if before is not None and before.defaults != defaults:
            raise DefinitionError(
                where,
                f"Domain({before.domain!r}) has given it other defaults than "
                f"Domain({domain!r})",
                why="a job is enqueued by a class or a function, whichever app is about",
                fix="give both domains the same Defaults, or only one of them any",
            )
        self._given = _Given(domain, MappingProxyType(dict(defaults)))
        for holder in tuple(self._relying):
            holder.forget_options()

    def resolved(self, written: W, chosen: Collection[str]) -> W:
        """Return *written* with the domain's defaults for what was not *chosen*."""
        if self._given is None:
            return written
        theirs = {
            name: value
            for name, value in self._given.defaults.items()
            if name not in chosen
        }
        return replace(written, **theirs)

    def origins(self, written: TaskOptions, chosen: Collection[str]) -> dict[str, str]:
        """Return whence *written* has each option for which a domain may have a default."""
        kind: type = type(written)
        names = [n for n, o in options_of(kind).items() if o.by_domain]
        return {name: self._origin(name, chosen) for name in names}

    def _origin(self, name: str, chosen: Collection[str]) -> str:
        if name in chosen:
            return "option"
        if self._given is not None and name in self._given.defaults:
            return f"domain {self._given.domain}"
        return "default"
