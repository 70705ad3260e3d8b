"""The shop as an app of statejobs: `statejobs worker --app order_flow.app:make_app`."""

from __future__ import annotations

from datetime import timedelta

from order_flow.models import Order
from statejobs import Domain, StateJobs, WorkerSettings

DATABASE = "sqlite:///shop.db"


def make_app(database: str | None = None) -> StateJobs:
    """Return the shop on *database*."""
    return StateJobs(
        database or DATABASE,
        domains=[Domain("shop", resources=[Order])],
        queues={"default": 2, "payments": 4},
        # Short, so that the recovery from a killed worker can be watched; the defaults suit most.
        settings=WorkerSettings(
            lease=timedelta(seconds=5),
            heartbeat=timedelta(seconds=1),
            rescue=timedelta(seconds=1),
            poll=timedelta(seconds=0.2),
            shutdown_grace=timedelta(seconds=5),
        ),
    )
