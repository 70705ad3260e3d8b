"""What a parameter's annotation says, as far as it can be known when a class is made."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from types import SimpleNamespace, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from sqlalchemy.orm import Session

from statejobs.declare.chunk import ChunkContext
from statejobs.declare.context import AsyncJobContext, JobContext

CONTEXTS: tuple[type, ...] = (JobContext, AsyncJobContext, ChunkContext)
_ASYNC_SESSION = "AsyncSession"
"""By its name: importing it needs an extra."""
_BY_NAME: dict[str, object] = {kind.__name__: kind for kind in (*CONTEXTS, Session)}
_BY_NAME[_ASYNC_SESSION] = _ASYNC_SESSION
_UNKNOWN: tuple[object, ...] = (inspect.Parameter.empty, Any)
_LAST_NAME = re.compile(r"(?:.*\.)?(\w+)")


def meaning(function: Callable[..., Any], parameter: inspect.Parameter) -> object:
    """Return what the annotation of one parameter means; its text when that cannot be known.

    Each is read by itself: its neighbour may name a class that is defined later, and a context may
    be imported for type checkers only.
    """
    return _meaning(function, parameter.annotation)


def meaning_of_return(function: Callable[..., Any]) -> object:
    """Return what the annotation of what it returns means, as `meaning` does of a parameter."""
    return _meaning(function, inspect.signature(function).return_annotation)


def _meaning(function: Callable[..., Any], annotation: object) -> object:
    holder = SimpleNamespace(__annotations__={"it": annotation})
    names = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        found: object = get_type_hints(holder, globalns=names)["it"]
        return getattr(found, "__value__", found)  # of `type Context = JobContext`
    except Exception:  # noqa: BLE001 - annotations are anyone's code
        name = _LAST_NAME.fullmatch(str(annotation).strip("'\" "))
        return _BY_NAME.get(name[1], annotation) if name else annotation


def accepts(annotation: object, given: type) -> bool:
    """Return whether a parameter so annotated may be passed a *given*; True when unknown."""
    members = members_of(annotation)
    if len(members) > 1:
        return any(accepts(one, given) for one in members)
    kind = get_origin(annotation) or annotation
    if isinstance(kind, str):
        return kind != _ASYNC_SESSION
    if not isinstance(kind, type) or kind in _UNKNOWN:
        return True
    return getattr(kind, "_is_protocol", False) or issubclass(given, kind)


def members_of(annotation: object) -> tuple[object, ...]:
    """Return what a union consists of; of anything else, itself."""
    is_union = get_origin(annotation) in {Union, UnionType}
    return get_args(annotation) if is_union else (annotation,)


def is_context(annotation: object) -> bool:
    """Return whether a parameter so annotated asks for the context of a job or of a call."""
    return isinstance(annotation, type) and issubclass(annotation, CONTEXTS)


def is_session(annotation: object) -> bool:
    """Return whether a parameter so annotated asks for a session, sync or async."""
    if isinstance(annotation, type):
        return annotation.__name__ == _ASYNC_SESSION or issubclass(annotation, Session)
    return annotation == _ASYNC_SESSION


def shown(annotation: object) -> str:
    """Return how messages call an annotation."""
    names = [
        m.__name__ if isinstance(m, type) else str(m) for m in members_of(annotation)
    ]
    return " | ".join(names)
