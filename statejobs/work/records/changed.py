"""Lets the body of an action be followed by the changes that it declares."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from statejobs.record.loading import with_loading
from statejobs.record.specs import ActionSpec
from statejobs.values.unrun import ran


def with_changes(
    run: Callable[[], Any],
    action: ActionSpec,
    apply: Callable[[], None],
    *,
    is_async: bool,
) -> Callable[[], Any]:
    """Return the call of a body, *run*, followed by *apply*, which may load what it touches."""

    def changed() -> Any:
        result = ran(run(), "action", action.name)
        apply()
        return result

    async def changed_async() -> Any:
        awaited: Coroutine[Any, Any, Any] = run()
        result = ran(await awaited, "action", action.name)
        await with_loading(apply)
        return result

    return changed_async if is_async else changed
