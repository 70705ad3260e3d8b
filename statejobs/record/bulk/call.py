"""One call of `bulk`, checked: what its statements are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnExpressionArgument

from statejobs.record.ledger import Step
from statejobs.record.model import ResourceModel
from statejobs.record.specs import BoundTrigger, TransitionSpec


@dataclass(frozen=True, kw_only=True, eq=False)
class BulkMove:
    """One checked call of `bulk`."""

    model: ResourceModel
    declared: TransitionSpec
    criteria: tuple[ColumnExpressionArgument[bool], ...]
    values: Mapping[Column[Any], Any]
    """What is written with the state."""
    step: Step
    at: datetime
    job: Mapping[str, int | None]
    """The job whose action has the session, if one has, as history names it."""
    limit: int | None

    @property
    def promised(self) -> BoundTrigger | None:
        """The trigger whose jobs it enqueues."""
        bound = self.model.bound(self.declared.run_trigger)
        return bound if bound and self.step.target in bound.sources else None
