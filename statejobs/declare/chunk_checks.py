"""Refuses actions that do not fit the `chunk=` of their trigger."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from statejobs.declare.annotations import accepts, is_session, shown
from statejobs.declare.chunk import ChunkContext
from statejobs.errors import DefinitionError
from statejobs.record.specs import ActionSpec


def check_chunk(
    cls: type, action: ActionSpec, context: str | None, hints: Mapping[str, Any]
) -> None:
    """Refuse a list where one record comes, and the reverse.

    Args:
        cls: Of the records.
        action: Of a trigger with or without `chunk`.
        context: Name of the parameter that takes the context, if there is one.
        hints: What the annotations of the body mean, as far as that is known.

    Raises:
        DefinitionError: The action does not fit its trigger.
    """
    where = f"{cls.__name__}.{action.name}"
    options = action.trigger.options
    form = f"@staticmethod def {action.name}(records: Sequence[{cls.__name__}], ctx: ChunkContext)"
    if options.chunk is not None and not action.is_chunk:
        raise DefinitionError(
            where,
            f"trigger {options.key!r} has chunk={options.chunk}, and its action takes one record",
            why="a call of a chunk action takes many records, none of which is `self`",
            fix=f"write {form}, or leave chunk= out",
        )
    if options.chunk is None and (
        action.is_chunk or hints.get(context or "") is ChunkContext
    ):
        raise DefinitionError(
            where,
            f"the action takes a list of records, and trigger {options.key!r} has no chunk=",
            why="each of its jobs is run by itself, with its record as `self`",
            fix=f"say Trigger.on_demand({options.key!r}, chunk=100), or take self and a JobContext",
        )
    if action.is_chunk:
        _check_form(where, action, form, context, hints)


def _check_form(
    where: str,
    action: ActionSpec,
    form: str,
    context: str | None,
    hints: Mapping[str, Any],
) -> None:
    parameters = inspect.signature(action.body).parameters
    if len(parameters) != 2 or context is None:  # noqa: PLR2004 - the records and the context
        raise DefinitionError(
            where,
            f"a chunk action takes two parameters, not {len(parameters)}",
            why="it is called with a list of records and one context; jobs carry no arguments",
            fix=f"write {form}",
        )
    if not accepts(hints[context], ChunkContext):
        session = "; the session is ctx.session" if is_session(hints[context]) else ""
        raise DefinitionError(
            where,
            f"a chunk action takes ChunkContext, not {shown(hints[context])}",
            why="a call of this action runs many jobs, and only a ChunkContext tells of many",
            fix=f"annotate it: {context}: ChunkContext{session}",
        )
    if len(action.targets) > 1:
        raise DefinitionError(
            where,
            f"a chunk action has one target, not {len(action.targets)}",
            why="it returns once, for many records",
            fix="name one, or leave chunk= out",
        )
    for word, is_given, why, fix in (
        (
            "async",
            action.is_async,
            "its call has one session for all records, a Session",
            "write it as `def`",
        ),
        (
            "atomic",
            action.is_atomic,
            "the locks of all records would be held through its body",
            "leave atomic=True out",
        ),
    ):
        if is_given:
            problem = f"a chunk action cannot be {word}"
            raise DefinitionError(
                where, problem, why=why, fix=f"{fix}, or leave chunk= out"
            )
