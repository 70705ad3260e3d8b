"""The error for a transition or an action that may not fire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from statejobs.errors import TransitionRefusedError

if TYPE_CHECKING:
    from statejobs.resource.model import ResourceModel


def refused(record: Any, name: str, reasons: Sequence[str]) -> TransitionRefusedError:
    """Return the error for a transition that may not fire."""
    model: ResourceModel = type(record).__statejobs__
    return TransitionRefusedError(
        name,
        record=model.label(record),
        state=model.kernel.state_of(record),
        reasons=reasons,
        available=model.could_fire(record),
    )
