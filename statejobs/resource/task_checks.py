"""What cannot be a task, said when it is declared."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, get_type_hints

from statejobs.context import AsyncJobContext, BaseContext, JobContext
from statejobs.errors import DefinitionError

if TYPE_CHECKING:
    from statejobs.resource.task import Task

_CONTEXTS: dict[str, type[BaseContext]] = {
    kind.__name__: kind for kind in (JobContext, AsyncJobContext)
}
_LAST_NAME = re.compile(r"(?:.*\.)?(\w+)")


def check_key(key: object) -> None:
    """Refuse `@task` without its parentheses.

    Raises:
        DefinitionError: The key is not text.
    """
    if isinstance(key, str):
        return
    raise DefinitionError(
        "@task",
        f"its key is {key!r}, not text",
        why="a stored job names its work by the key, which survives renames of code",
        fix=f'say @task("{getattr(key, "__name__", "report.daily")}")',
    )


def check_body(body: Any, key: str) -> None:
    """Refuse what a job could not call.

    Raises:
        DefinitionError: Not a plain function, or a method.
    """
    if not inspect.isfunction(body):
        raise DefinitionError(
            f"task {key!r}",
            f"{body!r} is not a function",
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


def context_of(body: Callable[..., Any], key: str) -> type[BaseContext] | None:
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


def check_hook(task: Task[..., ..., Any], hook: Callable[..., Any]) -> None:
    """Refuse an `on_discard` that could not be called.

    Raises:
        DefinitionError: It is the second, async, or does not take what the body takes.
    """
    where = f"task {task.key!r}"
    if task.discard_hook is not None:
        raise DefinitionError(
            where,
            "it has two @on_discard functions",
            why="only one could run",
            fix="call both from one function",
        )
    if inspect.iscoroutinefunction(hook):
        raise DefinitionError(
            where,
            f"its @on_discard, {hook.__name__!r}, is async",
            why="it runs inside the commit of the discard, which awaits nothing",
            fix="make it a `def`; let it enqueue a task for what takes long",
        )
    parameters = list(inspect.signature(task.body).parameters.values())[int(task.takes_context) :]
    required = [p.name for p in parameters if p.default is p.empty]
    for names in ([p.name for p in parameters], required):
        _try_call(where, hook, names)


def _try_call(where: str, hook: Callable[..., Any], names: Sequence[str]) -> None:
    try:
        inspect.signature(hook).bind(None, None, **dict.fromkeys(names))
    except TypeError as error:
        listed = ", ".join(["session", "reason", *names])
        raise DefinitionError(
            where,
            f"its @on_discard, {hook.__name__!r}, cannot be called: {error}",
            why="it is passed the session, the reason, and the arguments of the job by name",
            fix=f"def {hook.__name__}({listed}), with the defaults of the task",
        ) from None


def _context_class(
    body: Callable[..., Any], parameter: inspect.Parameter
) -> type[BaseContext] | None:
    annotation: Any = parameter.annotation
    if isinstance(annotation, str):
        annotation = _resolved(body, annotation)
    is_context = isinstance(annotation, type) and issubclass(annotation, BaseContext)
    return annotation if is_context else None


def _resolved(body: Callable[..., Any], annotation: str) -> object:
    """Return what an annotation in text means; a context may be imported for checkers only."""
    holder = SimpleNamespace(__annotations__={"it": annotation})
    try:
        return get_type_hints(holder, globalns=getattr(body, "__globals__", {}))["it"]
    except Exception:  # noqa: BLE001 - the signature's own check names what cannot be resolved
        name = _LAST_NAME.fullmatch(annotation.strip())
        return _CONTEXTS.get(name[1]) if name else None


def _where(key: str, body: Callable[..., Any]) -> str:
    return f"task {key!r}, {body.__name__}()"
