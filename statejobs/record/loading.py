"""What is ours around an `async def` body may load, as a lazy relationship in a guard does."""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import ParamSpec, TypeVar

from sqlalchemy.util import greenlet_spawn

P = ParamSpec("P")
T = TypeVar("T")

_CAN_SWITCH = find_spec("greenlet") is not None
"""Without it there is no AsyncSession, so nothing that could wait."""


async def with_loading(
    function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Call *function* so that an AsyncSession may load what it touches."""
    call = partial(function, *args, **kwargs)
    return await greenlet_spawn(call) if _CAN_SWITCH else call()
