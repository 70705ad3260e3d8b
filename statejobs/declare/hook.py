"""Hooks of a trigger: methods that run when a job of it gave up, or was superseded."""

from __future__ import annotations

import dis
import sys
from typing import TYPE_CHECKING, Any

from statejobs.errors import DefinitionError
from statejobs.record.specs import HookSpec, TriggerSpec
from statejobs.values.outcome import HookKind

if TYPE_CHECKING:
    _Method = staticmethod[..., Any]
else:
    # bases that look at the types of attributes take one for a method
    _Method = staticmethod


class Hook(_Method):
    """A declared hook; as an attribute it is the method that stands under the decorator."""

    def __init__(self, body: Any, specs: tuple[HookSpec, ...]) -> None:
        super().__init__(body)
        self.body = body
        self.specs = specs

    def __get__(self, record: object | None, owner: type | None = None) -> Any:
        """Return what the method itself would be."""
        bind = getattr(self.body, "__get__", None)
        return self.body if bind is None else bind(record, owner)


def hook_of(trigger: TriggerSpec, kind: HookKind, body: Any) -> Hook:
    """Return *body* as a hook of *trigger*, and whatever it is a hook of already."""
    others = body.specs if isinstance(body, Hook) else ()
    method = method_of(body)
    spec = HookSpec(kind=kind, trigger=trigger, body=method)
    return Hook(method, (*others, spec))


def method_of(body: Any) -> Any:
    """Return the method that stands under the decorators of hooks."""
    return body.body if isinstance(body, Hook) else body


def refuse_lost_hook(where: str, kind: HookKind, *, depth: int) -> None:
    """Refuse a hook that the class would not have: *depth* frames up no attribute is made of it.

    Raises:
        DefinitionError: The frame is no class body, or drops what the decorator returns.
    """
    frame = sys._getframe(depth)  # noqa: SLF001 - the only way to see what becomes of it
    later = (i for i in dis.get_instructions(frame.f_code) if i.offset > frame.f_lasti)
    if "__qualname__" in frame.f_locals and next(later).opname != "POP_TOP":
        return
    raise DefinitionError(
        where,
        f"its {kind} is no attribute of a class",
        why="a class has the hooks that stand in its body, its bases' too, and may override them",
        fix="make it the decorator of a method there, which may call any function: "
        "def tell(self, session: Session, reason: str) -> None",
    )
