"""Fires the declared transition by which a person lets a job go on, without arguments of theirs."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from typing import Any

from statejobs.record.firing import refused
from statejobs.record.model import ResourceModel
from statejobs.record.specs import BoundTrigger, TransitionSpec


def fire_way_back(model: ResourceModel, bound: BoundTrigger, record: Any) -> None:
    """Fire a transition that runs the trigger of *bound* from where *record* is.

    Of several the first whose guards allow it, and which can be called without arguments.

    Raises:
        TransitionRefusedError: There is none, each needs an argument, or a guard says no.
    """
    ways = list(_ways(model, bound, record))
    open_ways = [way for way in ways if not needed_arguments(way)]
    if not open_ways:
        raise refused(record, "retry", _why_no_way(model, bound, record, ways))
    allowed = (way for way in open_ways if getattr(record, way.name).can())
    way = next(allowed, open_ways[0])
    fired = getattr(record, way.name)()
    if inspect.iscoroutine(fired):
        _await(record, way, fired)


def why_no_way_back(
    model: ResourceModel, bound: BoundTrigger, record: Any
) -> str | None:
    """Return why no transition lets the job of *record* go on; None when there is one."""
    ways = list(_ways(model, bound, record))
    open_ways = [way for way in ways if not needed_arguments(way)]
    if not open_ways:
        return " ".join(_why_no_way(model, bound, record, ways))
    if any(getattr(record, way.name).can() for way in open_ways):
        return None
    listed = ", ".join(repr(way.name) for way in open_ways)
    if any(model.why_forbidden(record, way) for way in open_ways):
        return f"a permission of {listed} says no to who asks."
    return f"a guard of {listed} says no now."


def needed_arguments(way: TransitionSpec) -> list[str]:
    """Return the names of the arguments that *way* cannot be called without."""
    return [p.name for p in way.signature.parameters.values() if p.is_required]


def _ways(
    model: ResourceModel, bound: BoundTrigger, record: Any
) -> Iterator[TransitionSpec]:
    state = model.kernel.state_of(record)
    for edge in model.spec.transitions:
        if bound.key in edge.keys and state in edge.sources:
            yield model.transitions[edge.name]


def _why_no_way(
    model: ResourceModel, bound: BoundTrigger, record: Any, ways: list[TransitionSpec]
) -> list[str]:
    if not ways:
        return [
            f"no transition from {model.kernel.state_of(record)!r} runs {bound.key!r}."
        ]
    reasons = []
    for way in ways:
        names = needed_arguments(way)
        call = f"{way.name}({', '.join(f'{name}=…' for name in names)})"
        listed = ", ".join(repr(name) for name in names)
        reasons.append(
            f"{way.name!r} needs {listed}, which nobody gives here: call .{call} on the record, "
            "or give it a default."
        )
    return reasons


def _await(record: Any, way: TransitionSpec, fired: Any) -> None:
    """Run the body of an `async def` transition to its end, in a loop of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(fired)
        return
    fired.close()
    reason = (
        f"{way.name!r} is async, and this thread runs an event loop: await .{way.name}() of the "
        "record, or await asyncio.to_thread(jobs.retry_job, …)."
    )
    raise refused(record, "retry", [reason])
