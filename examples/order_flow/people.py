"""Who uses the shop in the demo: customers, and an operator."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import select

from order_flow.models import Order, S
from statejobs import StaleTransitionError, StateJobs, acting_as


class Mind(StrEnum):
    """What a customer does about an order."""

    BUYS = "buys"
    LEAVES = "leaves"
    """Cancels the draft."""
    REGRETS = "regrets"
    """Submits, and cancels at once: in time only if no worker has taken the job yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One customer in the shop."""

    at: float
    """Seconds after the opening."""
    total: int
    coupon: str | None
    mind: Mind


def plan_visits(orders: int, seed: int) -> deque[Visit]:
    """Return as many visits as *orders*, spread over a few seconds."""
    rng = random.Random(seed)
    seconds = max(3.0, orders / 40)
    return deque(
        Visit(
            at=seconds * number / orders,
            total=rng.randint(500, 20_000),
            coupon=rng.choice([None, None, None, "SPRING"]),
            mind=rng.choices(list(Mind), weights=[88, 6, 6])[0],
        )
        for number in range(orders)
    )


def receive(jobs: StateJobs, visit: Visit) -> None:
    """Let a customer in."""
    with acting_as("customer"), jobs.session() as session:
        order = Order(total=visit.total)
        session.add(order)
        if visit.mind is Mind.LEAVES:
            order.cancel("left the shop")
        else:
            order.submit(coupon=visit.coupon)
        session.commit()  # the order, its history and its job, in one transaction

        if visit.mind is Mind.REGRETS:
            order.cancel("changed their mind")
            try:
                session.commit()
            except StaleTransitionError:  # a worker was faster: it is being paid
                session.rollback()


def retry_failed(jobs: StateJobs) -> None:
    """Let the operator send every failed order through its declared transition again."""
    with acting_as("operator"), jobs.session() as session:
        for order in session.scalars(select(Order).where(Order.state == S.FAILED)):
            order.retry()
        session.commit()
