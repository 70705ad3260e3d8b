"""One call of `bulk`, checked: what its statements are made from."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnExpressionArgument, Dialect

from statejobs.record.bulk.checks import Condition
from statejobs.record.bulk.each import reads_records
from statejobs.record.defaults import onupdate_values
from statejobs.record.ledger import Step
from statejobs.record.model import ResourceModel
from statejobs.record.specs import BoundTrigger, TransitionSpec
from statejobs.store.bulk_move import MatchingMove
from statejobs.store.key_text import key_text


@dataclass(frozen=True, kw_only=True, eq=False)
class BulkMove:
    """One checked call of `bulk`."""

    model: ResourceModel
    declared: TransitionSpec
    where: ColumnExpressionArgument[bool]
    conditions: tuple[Condition, ...]
    """Its permissions and its guards."""
    values: Mapping[Column[Any], Any]
    """What is written with the state."""
    step: Step
    at: datetime
    job: Mapping[str, int | None]
    """The job whose action has the session, if one has, as history names it."""
    limit: int | None

    def matching(self, dialect: Dialect) -> MatchingMove:
        """Return it as the store takes it.

        Raises:
            BulkError: The database cannot make the text of such a key.
        """
        model = self.model
        where = f"{model.cls.__name__}.{self.declared.name}.bulk"
        return MatchingMove(
            whole=model.cls,
            state=getattr(model.cls, model.attribute),
            records=model.records,
            record_id=key_text(model.records.keys, dialect, where=where),
            criteria=(self.where, *(asked for _, asked in self.conditions)),
            sources=self.declared.source,
            target=self.declared.target,
            at=self.at,
            values={**onupdate_values(model.table), **self.values},
            limit=self.limit,
            tenant=model.tenant_column,
        )

    def leaving(self, source: enum.Enum) -> BulkMove:
        """Return it for the records in one of its sources alone."""
        return replace(self, declared=replace(self.declared, source=(source,)))

    @property
    def reads_records(self) -> bool:
        """Whether one of its jobs is made from its record."""
        return any(reads_records(self.model, promise) for promise in self.step.promises)

    @property
    def promised(self) -> tuple[BoundTrigger, ...]:
        """The triggers whose jobs it enqueues."""
        return tuple(self.model.triggers[promise.key] for promise in self.step.promises)
