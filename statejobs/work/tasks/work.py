"""The work port of the runner, for stand-alone tasks: there is no record to lock or to move."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from statejobs.declare.domain import Registry
from statejobs.runner.port import AsyncRun, Claim, Ending, Policy, Run, Starts, Whereabouts, Work
from statejobs.store.finish import finish_job
from statejobs.store.store import Store
from statejobs.store.together import complete_jobs, complete_one
from statejobs.values.clock import Sources
from statejobs.values.job import Job, JobState
from statejobs.values.lifecycle import Landing, Settlement
from statejobs.work.declares import Declarations
from statejobs.work.discarding import run_hook
from statejobs.work.fitting import fit_tasks
from statejobs.work.tasks.attempt import AsyncTaskRun, TaskRun, TaskSubject

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine


class TaskWork:
    """Runs tasks."""

    def __init__(
        self,
        registry: Registry,
        store: Store,
        sources: Sources,
        async_engine: Callable[[], AsyncEngine],
        declarations: Declarations,
    ) -> None:
        self._tasks, self._store, self._sources = registry.tasks, store, sources
        self._async_engine, self._declarations = async_engine, declarations
        self._keys = tuple(registry.tasks)

    def keys(self) -> Sequence[str]:
        """Keys and aliases of all tasks."""
        return self._keys

    def policy(self, key: str) -> Policy:
        """Return how jobs of *key* are run."""
        task = self._tasks[key].spec
        options = task.options
        return Policy(
            max_attempts=options.max_attempts,
            max_crashes=options.max_crashes,
            backoff=options.backoff,
            timeout=options.timeout,
            is_async=task.is_async,
            has_record=False,
        )

    def of(self, key: str) -> Work:
        """Return itself."""
        del key
        return self

    def start(self, connection: Connection, jobs: Sequence[Job], now: datetime) -> Starts:
        """Return that all are ready whose arguments fit."""
        del now
        tasks = [(job, self._tasks[job.key].spec) for job in jobs]
        wanted = [(job, task.signature, task.options.upcast) for job, task in tasks]
        fitting, misfits = fit_tasks(connection, self._declarations, wanted)
        ready = [(job, TaskSubject(self._tasks[job.key].spec, args=args)) for job, args in fitting]
        return Starts(ready=ready, busy=(), stale={}, misfits=misfits)

    def open(self, claim: Claim, now: datetime) -> Run:
        """Return an attempt of a `def` task."""
        return TaskRun(self._store, claim, self._sources, now)

    def open_async(self, claim: Claim, now: datetime) -> AsyncRun:
        """Return an attempt of an `async def` task."""
        return AsyncTaskRun(self._store, self._async_engine, claim, self._sources, now)

    def land(
        self, connection: Connection, claim: Claim, landing: Landing, *, now: datetime,
        reason: str | None = None, changes: Mapping[str, Any] | None = None,
    ) -> bool:  # fmt: skip
        """Return that it could run again: nothing moves."""
        del connection, claim, landing, now, reason, changes
        return True

    def land_and_finish(
        self, connection: Connection, claim: Claim, settlement: Settlement, *, now: datetime,
        changes: Mapping[str, Any],
    ) -> JobState | None:  # fmt: skip
        """End the job with one fenced statement."""
        del changes
        return finish_job(
            connection, claim.job, settlement, now=now, rests_in_source=True,
            allowance=claim.policy.max_attempts,
        )  # fmt: skip

    def finish_together(self, successes: Sequence[Ending], *, now: datetime) -> frozenset[int]:
        """Complete the jobs that are still ours, with one statement for all."""
        held = [success.claim.job for success in successes]
        if self._store.can_fuse:
            parameters = {
                "given_job_id": [job.id for job in held],
                "given_attempt": [job.attempt for job in held],
                "given_token": [job.token for job in held],
                "moved_at": now,
            }
            # No lock_timeout: the statement meets no index, foreign key or table of a user's.
            with self._store.single() as connection:
                return frozenset(connection.execute(_COMPLETE_ALL, parameters).scalars())
        rows = [
            {"job_id": job.id, "held_attempt": job.attempt, "held": job.token, "moved_at": now}
            for job in held
        ]
        with self._store.transaction() as connection:
            if connection.execute(_COMPLETE_ONE, rows).rowcount == len(held):
                return frozenset(job.id for job in held)
            connection.rollback()  # someone took one of them: each by itself then
        return frozenset()

    def rests_in_source(self, connection: Connection, claim: Claim) -> bool:
        """Return that it could run again."""
        del connection, claim
        return True

    def whereabouts(self, connection: Connection, claim: Claim) -> Whereabouts:
        """Return that nothing was moved: there is no record."""
        del connection, claim
        return Whereabouts(reason=None, rests_in_source=True, is_declared=False)

    def recover(self, connection: Connection, job: Job) -> TaskSubject:
        """Return the task of a job whose worker is gone."""
        del connection
        return TaskSubject(self._tasks[job.key].spec)

    def find_at_rest(self, connection: Connection, job: Job) -> TaskSubject:
        """Return the task of a job that could not be claimed."""
        return self.recover(connection, job)

    def discarded(self, connection: Connection, claim: Claim, reason: str) -> BaseException | None:
        """Run the task's `on_discard` in a savepoint; return what it raised."""
        subject: TaskSubject = claim.subject
        hook = subject.task.discard_hook
        if hook is None:
            return None

        def call(session: Session) -> object:
            task = subject.task
            args = task.signature.decode(claim.job.args, task.options.upcast)
            returned: object = hook(session, reason, **args)
            return returned

        return run_hook(connection, claim, self._sources, call)


_COMPLETE_ALL = complete_jobs()
_COMPLETE_ONE = complete_one()
