"""What cannot be a task, said when it is declared."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from reprlib import repr as short
from typing import Any

from statejobs.declare.annotations import is_context, meaning
from statejobs.declare.context import AsyncJobContext, JobContext
from statejobs.declare.hook_checks import check_function_hook, refuse_second_hook
from statejobs.errors import DefinitionError, did_you_mean
from statejobs.record.specs import TaskSpec
from statejobs.values.options import TaskOptions
from statejobs.values.unique import Mark
from statejobs.values.unique_key import names_and_marks


def check_body(body: Any, key: str) -> None:
    """Refuse what a job could not call.

    Raises:
        DefinitionError: Not a plain function, or a method.
    """
    if not inspect.isfunction(body):
        raise DefinitionError(
            f"task {key!r}",
            f"{short(body)} is not a function",
            why="a job calls the function by its key",
            fix="put @task on a `def` or an `async def`, as the outermost decorator",
        )
    if inspect.isgeneratorfunction(body) or inspect.isasyncgenfunction(body):
        raise DefinitionError(
            _where(key, body),
            "it is a generator",
            why="calling it only makes a generator; its body would never run",
            fix="leave `yield` out: return nothing, and report with ctx.progress",
        )
    if next(iter(inspect.signature(body).parameters), None) in {"self", "cls"}:
        raise DefinitionError(
            _where(key, body),
            "it is a method",
            why="a task belongs to no record, so there is nothing to be `self`",
            fix="make it a function; work on a record is a Trigger with an action",
        )


def context_of(body: Callable[..., Any], key: str) -> type | None:
    """Return which context the first parameter of *body* asks for.

    Raises:
        DefinitionError: The context of the other colour, in another place, or without a type.
    """
    wanted = AsyncJobContext if inspect.iscoroutinefunction(body) else JobContext
    for place, parameter in enumerate(inspect.signature(body).parameters.values()):
        kind = _context_class(body, parameter)
        if parameter.name == "ctx" and parameter.annotation is parameter.empty:
            raise DefinitionError(
                _where(key, body),
                "'ctx' has no annotation",
                why="a task says by the type of its first parameter that it wants its context",
                fix=f"annotate it: ctx: {wanted.__name__}",
            )
        if kind is None:
            continue
        if place > 0 or parameter.kind is parameter.KEYWORD_ONLY:
            raise DefinitionError(
                _where(key, body),
                f"{parameter.name!r} is a context, but not the first parameter",
                why="the runner passes the context first; what follows is stored with the job",
                fix=f"def {body.__name__}({parameter.name}: {wanted.__name__}, …)",
            )
        if kind is not wanted:
            raise DefinitionError(
                _where(key, body),
                f"it takes {wanted.__name__}, not {kind.__name__}",
                why="the session of an `async def` is an AsyncSession, that of a `def` a Session",
                fix=f"annotate it: {parameter.name}: {wanted.__name__}",
            )
        return kind
    return None


def check_unique(body: Callable[..., Any], options: TaskOptions, *, skip: int) -> None:
    """Refuse a `Unique` by what the task does not take.

    Raises:
        DefinitionError: With the closest of its arguments and the marks.
    """
    by = options.unique.by if options.unique is not None else None
    parameters = list(inspect.signature(body).parameters)[skip:]
    _, marks = names_and_marks(by, parameters)
    for mark in marks:
        if mark not in set(Mark):
            raise DefinitionError(
                _where(options.key, body),
                f"its Unique is by {mark!r}, which is no argument of it",
                why="requests that share what by= names are one",
                fix=did_you_mean(mark, [*parameters, *map(str, Mark)]),
            )


def refuse_required(body: Callable[..., Any], key: str, *, skip: int) -> None:
    """Refuse parameters that a tick could not give.

    Raises:
        DefinitionError: One has no default.
    """
    for parameter in list(inspect.signature(body).parameters.values())[skip:]:
        is_open = parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
        if parameter.default is parameter.empty and not is_open:
            raise DefinitionError(
                _where(key, body),
                f"{parameter.name!r} has no default",
                why="its ticks pass no arguments",
                fix="give it one; ctx.tick says for which instant it runs",
            )


def check_hook(task: TaskSpec, hook: Callable[..., Any]) -> None:
    """Refuse an `on_discard` that could not be called.

    Raises:
        DefinitionError: It is the second, async, or does not take what the body takes.
    """
    where = f"task {task.key!r}"
    refuse_second_hook(where, task.discard_hook)
    parameters = list(inspect.signature(task.body).parameters.values())[
        int(task.takes_context) :
    ]
    required = [p.name for p in parameters if p.default is p.empty]
    check_function_hook(where, hook, [p.name for p in parameters], required)


def _context_class(
    body: Callable[..., Any], parameter: inspect.Parameter
) -> type | None:
    annotation: Any = meaning(body, parameter)
    return annotation if is_context(annotation) else None


def _where(key: str, body: Callable[..., Any]) -> str:
    return f"task {key!r}, {body.__name__}()"
