"""Refuses methods that cannot be actions or transitions, and contexts that no runner passes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import NoneType
from typing import Any

from statejobs.declare.annotations import (
    accepts,
    is_context,
    is_session,
    meaning,
    meaning_of_return,
    members_of,
    shown,
)
from statejobs.declare.chunk_checks import check_chunk
from statejobs.declare.context import AsyncJobContext, JobContext
from statejobs.errors import DefinitionError
from statejobs.record.ledger import value_of
from statejobs.record.specs import ActionSpec, TransitionSpec
from statejobs.values.arguments import Signature
from statejobs.values.article import indefinite
from statejobs.values.call_checks import is_generator

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def check_transition(cls: type, transition: TransitionSpec) -> None:
    """Refuse a transition whose body would never run, or whose arguments have no names.

    Raises:
        DefinitionError: As said.
    """
    _refuse_generator(f"{cls.__name__}.{transition.name}", transition.body)
    _ = transition.signature


def check_action(cls: type, action: ActionSpec) -> None:
    """Refuse an action that its runner could not call, or would call with another context.

    Raises:
        DefinitionError: As said.
    """
    where = f"{cls.__name__}.{action.name}"
    body = action.body
    parameters = list(inspect.signature(body).parameters.values())
    named = [p for p in parameters if p.kind in _BY_NAME]
    meanings = {p.name: meaning(body, p) for p in named}
    positional = [p.name for p in named if p.kind is not p.KEYWORD_ONLY]
    check_chunk(cls, action, positional[1] if len(positional) > 1 else None, meanings)
    _refuse_generator(where, body)
    if action.is_chunk:
        return
    wanted = AsyncJobContext if action.is_async else JobContext
    _check_places(where, action, positional, meanings, wanted)
    _check_kind(where, action, positional[1], meanings[positional[1]], wanted)
    _check_return(where, action)
    # Its annotations may name classes that are defined later; they are resolved with the app.
    Signature.of(body, name=action.label, skip=2, stored=False)


def _check_places(
    where: str,
    action: ActionSpec,
    positional: list[str],
    meanings: dict[str, object],
    wanted: type,
) -> None:
    """Refuse an action whose first two parameters are not its record and its context."""
    form = f"{_def(action)} {action.name}(self, ctx: {wanted.__name__})"
    if positional and is_context(meanings[positional[0]]):
        raise DefinitionError(
            where,
            f"its first parameter, {positional[0]!r}, is the context",
            why="the first is the record itself",
            fix=f"{form} -> None",
        )
    late = [name for name in meanings if name not in positional[:2]]
    for name in late:
        if name == "ctx" or is_context(meanings[name]):
            raise DefinitionError(
                where,
                f"{name!r} is the context, but not the first parameter after self",
                why="the runner passes the context first; what follows is stored with the job",
                fix=f"{form[:-1]}, …) -> None",
            )
    if len(positional) < 2:  # noqa: PLR2004 - self and the context
        raise DefinitionError(
            where,
            "the action takes no context",
            why=_passed(wanted),
            fix=f"{form} -> None",
        )


def _check_kind(
    where: str,
    action: ActionSpec,
    name: str,
    annotation: object,
    wanted: type,
) -> None:
    """Refuse an annotation of the context that does not fit what the runner passes."""
    if accepts(annotation, wanted):
        return
    kind = "an `async def`" if action.is_async else "a `def`"
    problem = f"{kind} action takes {wanted.__name__}, not {shown(annotation)}"
    why = _passed(wanted)
    fix = f"annotate it: {name}: {wanted.__name__}"
    if annotation in {JobContext, AsyncJobContext}:
        why = "the session of an async action is an AsyncSession, that of a sync one a Session"
    elif is_session(annotation):
        fix = f"say ctx: {wanted.__name__}; the session is ctx.session"
    elif not any(is_context(m) or is_session(m) for m in members_of(annotation)):
        form = f"{_def(action)} {action.name}(self, ctx: {wanted.__name__}"
        problem = f"its first parameter after self, {name!r}, is no {wanted.__name__}"
        fix = f"{form}, {name}: {shown(annotation)}, …)"
    raise DefinitionError(where, problem, why=why, fix=fix)


def _check_return(where: str, action: ActionSpec) -> None:
    """Refuse an action of several targets that says that it returns none."""
    if len(action.targets) < 2 or meaning_of_return(action.body) is not NoneType:  # noqa: PLR2004
        return
    listed = ", ".join(str(value_of(target)) for target in action.targets)
    states = type(action.targets[0]).__name__
    raise DefinitionError(
        where,
        f"it is annotated `-> None`, and has several targets: {listed}",
        why="of several targets the method returns the one to which its record goes",
        fix=f"return a state, and annotate it: -> {states}; or name one target",
    )


def _refuse_generator(where: str, body: Callable[..., Any]) -> None:
    if not is_generator(body):
        return
    raise DefinitionError(
        where,
        "it is a generator",
        why="calling it only makes a generator; its body would never run",
        fix="leave `yield` out; an action reports with ctx.progress",
    )


def _passed(wanted: type) -> str:
    return f"the runner passes {indefinite(wanted.__name__)}: session, attempt, idempotency key"


def _def(action: ActionSpec) -> str:
    return "async def" if action.is_async else "def"
