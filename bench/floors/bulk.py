"""ORM objects loaded, and finished, by the hundred: one statement and one commit for all."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from bench.floors.claim import Claimer
from bench.floors.one_statement import Order, pay
from bench.floors.serve import serve
from statejobs import utcnow

BATCH = 100
FINISH = """
WITH wanted AS (
    SELECT * FROM unnest(
        %(records)s::integer[], %(versions)s::integer[], %(jobs)s::bigint[],
        %(charged)s::timestamptz[]
    ) AS wanted (record, version, job, charged_at)
), moved AS (
    UPDATE orders
    SET state = 'completed', state_version = state_version + 1, state_changed_at = %(now)s,
        charged_at = wanted.charged_at
    FROM wanted
    WHERE orders.id = wanted.record AND orders.state = 'processing'
        AND orders.state_version = wanted.version
    RETURNING orders.id, orders.state_version, wanted.job
), done AS (
    UPDATE statejobs_jobs AS job
    SET state = 'completed', finished_at = %(now)s, owner = NULL, token = NULL, lease_until = NULL
    FROM moved
    WHERE job.id = moved.job AND job.token = %(token)s AND job.state = 'processing'
    RETURNING job.id, job.attempt, moved.id AS record, moved.state_version
), history AS (
    INSERT INTO statejobs_transitions
        (resource, record_id, name, source, target, version, job_id, attempt, duration, at)
    SELECT 'Order', record::text, 'pay.complete', 'processing', 'completed', state_version,
        id, attempt, %(duration)s, %(now)s
    FROM done
)
SELECT 1 / (count(*) = %(count)s)::integer FROM done  -- one not ours: all is taken back
"""


class Bulk:
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
        """Claim, load, run and finish, all as one."""
        token, claimed = self._claimer.claim(self._raw)
        if not claimed:
            return 0
        with Session(self._connection) as session:
            query = select(Order).where(Order.id.in_([one.record for one in claimed]))
            orders = {order.id: order for order in session.scalars(query)}
            began = time.perf_counter()
            for order in orders.values():
                pay(order)
            self._raw.execute(
                FINISH,
                {
                    "records": [one.record for one in claimed],
                    "versions": [one.version for one in claimed],
                    "jobs": [one.job for one in claimed],
                    "charged": [orders[one.record].charged_at for one in claimed],
                    "token": token,
                    "count": len(claimed),
                    "duration": (time.perf_counter() - began) / len(claimed),
                    "now": utcnow(),
                },
            )
        return len(claimed)


if __name__ == "__main__":
    serve(Bulk, threads=1)
