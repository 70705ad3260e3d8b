"""Jobs at rest: runs the statements and maps their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, select

from statejobs.config import WorkerSettings
from statejobs.store.naming import ALONE
from statejobs.store.prepared import Prepared
from statejobs.store.rows import Beat, Expired, Held, Peek, job_of
from statejobs.store.statements import claim as claim_sql
from statejobs.store.statements import finish as finish_sql
from statejobs.store.statements import nodes as nodes_sql
from statejobs.store.statements import people as people_sql
from statejobs.store.statements import staging as staging_sql
from statejobs.store.statements.conditions import database_time
from statejobs.store.strangers import lock_among_strangers, peek, sought
from statejobs.store.transactions import Transactions
from statejobs.values.failure import Failure
from statejobs.values.job import Job, JobState
from statejobs.values.lifecycle import Settlement
from statejobs.values.redaction import DEFAULT, Redaction
from statejobs.values.suspects import Suspects


class Store(Transactions):
    """The job tables of one database.

    Every method takes the connection on which it works, except those that are a transaction of
    their own. Nothing here reads a clock.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        settings: WorkerSettings | None = None,
        redaction: Redaction = DEFAULT,
    ) -> None:
        super().__init__(engine, settings=settings)
        self.redaction = redaction
        """What is hidden in what is kept of errors, and in why jobs ended."""
        self._mark = Prepared(claim_sql.mark_processing(self.dialect), engine.dialect)
        self._stage_listed = staging_sql.stage_listed_jobs(self.dialect)
        self._postpone = claim_sql.postpone_jobs(self.dialect)
        self._renew = claim_sql.renew_leases(self.dialect)
        self._lock_jobs = claim_sql.lock_jobs(self.dialect)
        self._beat = nodes_sql.beat_node(self.dialect)

    # Claim

    def peek(self, queues: Sequence[str], keys: Sequence[str]) -> Peek:
        """Look which of *queues* have work for *keys* or for others, and when a job is due."""
        with self.unwaiting() as connection:
            return peek(connection, queues, keys)

    def stage_due(
        self, queues: Sequence[str], keys: Sequence[str], now: datetime, *, limit: int = 1000
    ) -> frozenset[str]:
        """Queue the jobs of *queues* and *keys* that are due; return the queues that got some."""
        given = {"queues": list(queues), "keys": list(keys), "now": now, "limit": limit}
        with self.unwaiting() as connection:
            return frozenset(row.queue for row in connection.execute(_STAGE, given))

    def find_due(
        self, queues: Sequence[str], keys: Sequence[str], now: datetime, *, limit: int
    ) -> list[int]:
        """Return the ids of the jobs that `stage_due` would queue."""
        given = {"queues": list(queues), "keys": list(keys), "now": now, "limit": limit}
        with self.unwaiting() as connection:
            return list(connection.scalars(_FIND_DUE, given))

    def stage_listed(self, ids: Sequence[int]) -> frozenset[str]:
        """Queue those of *ids* that wait for their time; return the queues that got some."""
        with self.unwaiting() as connection:
            rows = connection.execute(self._stage_listed, {"ids": list(ids)})
            return frozenset(row.queue for row in rows)

    def lock_queued(
        self, connection: Connection, queue: str, keys: Sequence[str], *, limit: int,
        suspects: Suspects = Suspects.ANY, sturdy: Sequence[str] = (),
        among_strangers: bool = False,
    ) -> list[Job]:  # fmt: skip
        """Lock up to *limit* queued jobs of *queue*, best first, waiting for nobody.

        Args:
            connection: With the transaction of the claim.
            queue: Which queue.
            keys: Whose jobs.
            limit: How many.
            suspects: Which of those whose worker died before.
            sturdy: The keys whose suspects may share, where *suspects* are those.
            among_strangers: Whether many others may wait in the queue: then each key is looked
                for by itself, with a statement more.
        """
        parameters = sought(queue, keys, limit=limit, suspects=suspects, sturdy=sturdy)
        if among_strangers:
            return lock_among_strangers(connection, parameters, suspects)
        rows = connection.execute(_LOCK[suspects], parameters)
        return [job_of(row) for row in rows.all()]

    def lock_trusted(
        self, connection: Connection, queue: str, key: str, *, limit: int
    ) -> list[Job]:
        """Lock up to *limit* queued jobs of *key* that are no suspects, waiting for nobody."""
        rows = connection.execute(_LOCK_TRUSTED, {"queue": queue, "key": key, "limit": limit})
        return [job_of(row) for row in rows.all()]

    def mark_processing(
        self, connection: Connection, ids: Sequence[int], *, source: str | None, by: str,
        token: str, now: datetime, until: datetime,
    ) -> None:  # fmt: skip
        """Claim locked jobs whose records were in *source*."""
        if not ids:
            return
        claimed = {"source": source, "by": by, "new_token": token, "now": now, "until": until}
        if self.dialect == "postgresql":
            self._mark.execute(connection, {"ids": list(ids), **claimed})
        else:
            self._mark.execute(connection, [{"job_id": id_, **claimed} for id_ in ids])

    def postpone(self, connection: Connection, ids: Sequence[int], until: datetime) -> None:
        """Put locked jobs back until *until*."""
        connection.execute(self._postpone, {"ids": list(ids), "until": until})

    def cancel_stale(
        self, connection: Connection, reasons: Mapping[int, str], now: datetime
    ) -> None:
        """Cancel locked, queued jobs, each for its reason."""
        rows = [{"job_id": id_, "why": why, "now": now} for id_, why in reasons.items()]
        connection.execute(_STALE, rows)

    # Hold

    def renew(self, ids: Sequence[int], *, by: str, until: datetime) -> list[Held]:
        """Extend leases, waiting for nobody; return those that are still held."""
        with self.unwaiting(of_leases=True) as connection:
            rows = connection.execute(
                self._renew, {"ids": list(ids), "by": by, "until": until}
            ).all()
        return [
            Held(job_id=r[0], token=r[1], cancel_requested=r[2], reason=r[3], is_renewed=bool(r[4]))
            for r in rows
        ]

    def lock_jobs(self, connection: Connection, ids: Sequence[int]) -> None:
        """Lock jobs, waiting for others; in the order of jobs, so that none waits for us."""
        connection.execute(self._lock_jobs, {"ids": list(ids)})

    def find_owned(self, by: str, before: datetime) -> list[tuple[int, str]]:
        """Return id and token of the processing jobs of a node whose lease ends *before*."""
        with self.unwaiting() as connection:
            rows = connection.execute(_FIND_OWNED, {"by": by, "before": before}).all()
        return [(row.id, row.token) for row in rows]

    def lock_claimed(self, connection: Connection, job_id: int, token: str) -> Job | None:
        """Lock a job that still bears *token*; None when it does not, or someone holds it."""
        row = connection.execute(_LOCK_CLAIMED, {"job_id": job_id, "held": token}).first()
        return None if row is None else job_of(row)

    def note(self, connection: Connection, job: Job, column: str, text: str | None) -> bool:
        """Write *column* (progress or checkpoint) of a job we hold; False when we do not."""
        found = connection.execute(
            claim_sql.note_on_job(column), {"job_id": job.id, "held": job.token, "note": text}
        )
        return found.rowcount == 1

    # Finish

    def finish(
        self, connection: Connection, job: Job, settlement: Settlement, *, now: datetime,
        rests_in_source: bool, allowance: int,
    ) -> JobState | None:  # fmt: skip
        """Settle a processing job; return its new state, or None when it is no longer ours."""
        parameters = finish_parameters(
            job, settlement, now=now, rests_in_source=rests_in_source, allowance=allowance
        )
        row = connection.execute(_FINISH, parameters).first()
        return None if row is None else JobState(row[0])

    def find_settled(self, job: Job) -> tuple[JobState, int] | None:
        """Return state and attempts of *job* when the attempt that we began has been ended."""
        with self.unwaiting() as connection:
            found = {"job_id": job.id, "began": job.started_at}
            row = connection.execute(_SETTLED, found).first()
        return None if row is None else (JobState(row.state), row.attempt)

    def find_cancel_request(self, connection: Connection, job: Job) -> str | None:
        """Lock a job that we hold; return the reason for which someone wants it to stop."""
        row = connection.execute(_HELD, {"job_id": job.id, "held": job.token}).first()
        return (row.reason or "cancelled") if row is not None and row.cancel_requested else None

    def record_attempt(
        self, connection: Connection, job: Job | Expired, outcome: str, *, now: datetime,
        failure: Failure | None = None, message: str | None = None,
    ) -> None:  # fmt: skip
        """Write how an attempt ended that did not complete."""
        connection.execute(
            _ATTEMPT,
            {
                "job_id": job.id,
                "attempt": job.attempt,
                "outcome": outcome,
                "error_type": failure.error_type if failure else None,
                "message": failure.message if failure else message,
                "traceback": (failure.traceback or None) if failure else None,
                "node": job.owner,
                "started_at": job.started_at,
                "finished_at": now,
            },
        )

    # People

    def restore_actor(self, connection: Connection, job: Job) -> None:
        """Give a job back the actor and the tenant that *job* has."""
        given = {"job_id": job.id, "by": job.actor, "within": job.tenant}
        connection.execute(_RESTORE_ACTOR, given)

    def cancel_waiting(self, connection: Connection, job_id: int, why: str, now: datetime) -> bool:
        """Cancel a waiting job; False when it does not wait."""
        params = {"job_id": job_id, "why": why, "now": now}
        return connection.execute(_CANCEL, params).rowcount == 1

    def request_cancel(self, connection: Connection, job_id: int, why: str) -> bool:
        """Ask a running job to stop; False when it does not run."""
        return connection.execute(_REQUEST, {"job_id": job_id, "why": why}).rowcount == 1

    def requeue(self, connection: Connection, job_id: int, allowance: int, now: datetime) -> bool:
        """Queue a waiting or ended job at once; False when it is processing or gone."""
        params = {"job_id": job_id, "allowance": allowance, "now": now}
        return connection.execute(_REQUEUE, params).rowcount == 1

    # Nodes

    def register_node(self, row: Mapping[str, object]) -> None:
        """Write the row of a worker process."""
        with self.unwaiting() as connection:
            connection.execute(_NODE, dict(row))

    def beat(
        self, node_id: str, now: datetime, *, offset: float | None = None, held: str | None = None
    ) -> Beat:
        """Renew the row of a worker process.

        Args:
            node_id: Whose.
            now: When.
            offset: How far ahead its wall clock is, in seconds.
            held: The keys that it cannot run now, as JSON.
        """
        given = {"node_id": node_id, "now": now, "offset": offset, "held_keys": held}
        with self.unwaiting(of_leases=True) as connection:
            found = connection.execute(self._beat, given).first()
        return Beat(is_known=found is not None, told=found[0] if found else None)

    def ask_time(self) -> datetime:
        """Return the time by the database's own clock."""
        with self.single(of_leases=True) as connection:
            told: datetime = connection.execute(select(database_time(self.dialect))).scalar_one()
        return told

    def count_held(self, node_id: str) -> int:
        """Count the jobs that a worker process holds, whether it knows of them or not."""
        with self.unwaiting() as connection:
            return int(connection.execute(_COUNT_HELD, {"by": node_id}).scalar_one())

    def remove_node(self, node_id: str) -> None:
        """Delete the row of a worker process."""
        with self.unwaiting() as connection:
            connection.execute(_UNNODE, {"node_id": node_id})

    def forget_silent_nodes(self, before: datetime) -> None:
        """Delete the rows of worker processes silent since *before*."""
        with self.unwaiting() as connection:
            connection.execute(_SILENT, {"before": before})


def finish_parameters(
    job: Job, settlement: Settlement, *, now: datetime, rests_in_source: bool, allowance: int
) -> dict[str, Any]:
    """Return the parameters of `finish_sql.finish_job`."""
    return {
        "job_id": job.id,
        "held_attempt": job.attempt,
        "held": job.token,
        "new_state": settlement.state.value,
        "new_attempt": settlement.attempt,
        "new_crashes": settlement.crashes,
        "new_returned": settlement.returned,
        "next_run_at": settlement.run_at,
        "ended_at": now if settlement.is_ended else None,
        "finished_now": now,
        "is_ended": settlement.is_ended,
        "completes": settlement.state is JobState.COMPLETED,
        "why": settlement.reason,
        "rests_in_source": rests_in_source,
        "allowance": allowance,
    }


_STAGE = staging_sql.stage_due_jobs()
_FIND_DUE = staging_sql.find_due_jobs()
_LOCK = {suspects: claim_sql.lock_queued_jobs(suspects) for suspects in Suspects}
_LOCK_TRUSTED = claim_sql.lock_trusted_jobs()
_STALE = claim_sql.cancel_stale_job()
_FIND_OWNED = claim_sql.find_owned_jobs()
_LOCK_CLAIMED = claim_sql.lock_claimed_job()
_HELD = finish_sql.lock_held_job()
_FINISH = finish_sql.finish_job(ALONE)
_SETTLED = finish_sql.find_settled_job()
_ATTEMPT = finish_sql.insert_attempts()
_RESTORE_ACTOR = people_sql.restore_actor()
_CANCEL = people_sql.cancel_waiting_job()
_REQUEST = people_sql.request_cancel()
_REQUEUE = people_sql.requeue_job()
_NODE = nodes_sql.insert_node()
_COUNT_HELD = nodes_sql.count_held_jobs()
_UNNODE = nodes_sql.delete_node()
_SILENT = nodes_sql.delete_silent_nodes()
