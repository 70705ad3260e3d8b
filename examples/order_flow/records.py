"""Everything that is known of a run when it is over."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from order_flow.models import Order, Receipt, S
from order_flow.progress import (
    IS_OF_AN_ORDER,
    TRANSITIONS,
    Move,
    count_attempts,
    move_of,
)
from statejobs import Job, StateJobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """What the database and the gateway say; orders go by their id as text."""

    orders: Mapping[str, Order]
    receipts: Counter[str]
    """How many each order has."""
    jobs: Mapping[str, Job]
    """The payment job of each order that was submitted."""
    histories: Mapping[str, Sequence[Move]]
    outcomes: Mapping[str, int]
    """How many attempts ended in each way other than success."""
    payments: Sequence[Mapping[str, Any]]
    """What the gateway remembers, a row for each idempotency key."""

    @property
    def completed(self) -> set[str]:
        """The orders that are completed."""
        return {id_ for id_, order in self.orders.items() if order.state is S.COMPLETED}

    @property
    def charges(self) -> Counter[str]:
        """How often money moved for each order, whatever the key."""
        charges: Counter[str] = Counter()
        for payment in self.payments:
            charges[str(payment["order"])] += payment["charges"]
        return charges

    def answers(self, order: str) -> list[str]:
        """Return what the gateway did with each call for *order*."""
        rows = [p["answers"] for p in self.payments if str(p["order"]) == order]
        return [answer for answers in rows for answer in answers]


def read_records(
    jobs: StateJobs, *, payments: Sequence[Mapping[str, Any]], began: datetime
) -> Records:
    """Read the database; the gateway's *payments* were asked for before it closed."""
    with jobs.session() as session:
        orders = {str(order.id): order for order in session.scalars(select(Order))}
        charges = jobs.queries.jobs(resource="Order", limit=len(orders) + 1)
        histories: defaultdict[str, list[Move]] = defaultdict(list)
        history = select(TRANSITIONS).where(IS_OF_AN_ORDER)
        for row in session.execute(history.order_by(TRANSITIONS.c.id)).mappings():
            histories[row["record_id"]].append(move_of(row, began))
        return Records(
            orders=orders,
            receipts=Counter(
                str(order) for order in session.scalars(select(Receipt.order_id))
            ),
            jobs={job.record_id: job for job in charges if job.record_id},
            histories=histories,
            outcomes=count_attempts(session),
            payments=payments,
        )
