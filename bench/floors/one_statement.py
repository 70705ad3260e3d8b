"""ORM objects loaded by the batch; each job finished by one guarded statement in autocommit."""

from __future__ import annotations

import time
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import DateTime, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.orm.attributes import instance_state

from bench.floors.claim import Claimed, Claimer, finished
from bench.floors.serve import serve
from statejobs import utcnow

BATCH = 20


class Base(DeclarativeBase):
    """A base without statejobs."""


class Order(Base):
    """The same table, mapped by hand."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[int]
    charged_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    state: Mapped[str]
    state_version: Mapped[int]
    state_changed_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


def pay(order: Order) -> None:
    """The action."""
    order.charged_at = utcnow()


@lru_cache
def finish_statement(changed: tuple[str, ...]) -> str:
    """Return what moves the record with its *changed* columns, fences and ends the job."""
    columns = "".join(f", {name} = %({name})s" for name in changed)
    return f"""
WITH moved AS (
    UPDATE orders
    SET state = 'completed', state_version = state_version + 1, state_changed_at = %(now)s{columns}
    WHERE id = %(record)s AND state = 'processing' AND state_version = %(version)s
    RETURNING state_version
), done AS (
    UPDATE statejobs_jobs
    SET state = 'completed', finished_at = %(now)s, owner = NULL, token = NULL, lease_until = NULL
    WHERE id = %(job)s AND attempt = %(attempt)s AND token = %(token)s AND state = 'processing'
        AND EXISTS (SELECT 1 FROM moved)
    RETURNING id
), history AS (
    INSERT INTO statejobs_transitions
        (resource, record_id, name, source, target, version, job_id, attempt, duration, at)
    SELECT 'Order', %(record)s::text, 'pay.complete', 'processing', 'completed', state_version,
        %(job)s, %(attempt)s, %(duration)s, %(now)s
    FROM moved, done
)
SELECT 1 / count(*) FROM done  -- not ours any more: an error takes everything back
"""


class OneStatement:
    """One thread."""

    def __init__(self, url: str) -> None:
        engine = create_engine(
            url.replace("postgresql://", "postgresql+psycopg://"),
            isolation_level="AUTOCOMMIT",
        )
        self._connection = engine.connect()
        self._raw: Any = self._connection.connection.driver_connection
        self._claimer = Claimer(BATCH)

    def run_batch(self) -> int:
        """Claim, load, and run one by one."""
        token, claimed = self._claimer.claim(self._raw)
        if not claimed:
            return 0
        with Session(self._connection) as session:
            query = select(Order).where(Order.id.in_([one.record for one in claimed]))
            orders = {order.id: order for order in session.scalars(query)}
            for one in claimed:
                self._run(one, orders[one.record], token)
        return len(claimed)

    def _run(self, one: Claimed, order: Order, token: str) -> None:
        began = time.perf_counter()
        pay(order)
        duration = time.perf_counter() - began
        changed = tuple(sorted(instance_state(order).committed_state))
        values = {name: getattr(order, name) for name in changed}
        self._raw.execute(
            finish_statement(changed),
            finished(one, token, utcnow(), duration, **values),
        )


if __name__ == "__main__":
    serve(OneStatement)
