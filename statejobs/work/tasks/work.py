"""The work port of the runner, for stand-alone tasks: there is no record to lock or to move."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from statejobs.declare.registry import Registry
from statejobs.errors import ArgumentsError
from statejobs.runner.answers import Starts, Whereabouts
from statejobs.runner.port import Attempt, Claim, Policy
from statejobs.store.store import Store
from statejobs.values.clock import Sources
from statejobs.values.job import Job
from statejobs.values.lifecycle import Landing
from statejobs.values.opened import Opened
from statejobs.values.outcome import HookKind
from statejobs.values.waiting import OTHER_CODE
from statejobs.work.declares import Declarations, Part
from statejobs.work.face import NO_ASYNC_SESSION, NO_SESSION, AsyncFace, Face, open_face
from statejobs.work.hooks import run_hook
from statejobs.work.policies import policy_of
from statejobs.work.tasks.attempt import TaskAttempt, TaskSubject

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
        *,
        opened: Opened,
    ) -> None:
        self._tasks = registry.tasks
        self._store = store
        self._sources = sources
        self._async_engine = async_engine
        self._declarations = declarations
        self._opened = opened
        self._keys = tuple(registry.tasks)

    def keys(self) -> Sequence[str]:
        """Keys and aliases of all tasks."""
        return self._keys

    def policy(self, key: str) -> Policy:
        """Return how jobs of *key* are run."""
        task = self._tasks[key].spec
        return policy_of(task.options, is_async=task.is_async)

    def start(
        self, connection: Connection, jobs: Sequence[Job], now: datetime
    ) -> Starts:
        """Return that all are ready, but for those whose arguments other code may fit."""
        del now
        ready: list[tuple[Job, TaskSubject]] = []
        misfits: list[tuple[Job, str]] = []
        for job in jobs:
            task = self._tasks[job.key].spec
            found = task.signature.fit(job.args, task.options.upcast)
            if not isinstance(found, ArgumentsError):
                ready.append((job, TaskSubject(task, args=found)))
            elif self._declarations.may_fit_others(connection, Part.KEYS, job.key):
                misfits.append((job, f"{OTHER_CODE}{found}"))
            else:  # its attempt tells what is wrong
                ready.append((job, TaskSubject(task)))
        return Starts(ready=ready, busy=(), stale={}, misfits=misfits)

    def open(self, claims: Sequence[Claim], now: datetime) -> Attempt:
        """Return an attempt of a task."""
        (claim,) = claims
        face: Face | AsyncFace = (
            NO_ASYNC_SESSION if claim.policy.is_async else NO_SESSION
        )
        if claim.subject.task.takes_context:
            face = open_face(
                self._store, self._async_engine, claim, self._sources, job=claim.job
            )
        return TaskAttempt(
            face,
            claims,
            store=self._store,
            sources=self._sources,
            now=now,
            opened=self._opened,
        )

    def reload(self, claims: Sequence[Claim]) -> frozenset[int]:
        """Return that all may run again: there is nothing to load."""
        return frozenset(claim.job.id for claim in claims)

    def move_of(
        self,
        claim: Claim,
        landing: Landing,
        *,
        now: datetime,
        reason: str | None = None,
        changes: Mapping[str, Any] | None = None,
    ) -> None:
        """Return that nothing moves."""
        del claim, landing, now, reason, changes

    def look(self, connection: Connection, claim: Claim) -> Whereabouts:
        """Return that it could run again: there is no record."""
        del connection, claim
        return Whereabouts(reason=None, rests_in_source=True, is_declared=False)

    def recover(self, connection: Connection, job: Job) -> TaskSubject:
        """Return the task of a job whose worker is gone."""
        del connection
        return TaskSubject(self._tasks[job.key].spec)

    def find_at_rest(self, connection: Connection, job: Job) -> TaskSubject:
        """Return the task of a job that could not be claimed."""
        return self.recover(connection, job)

    def run_hook(
        self, connection: Connection, claim: Claim, kind: HookKind, reason: str
    ) -> BaseException | None:
        """Run the task's `on_discard` in a savepoint; return what it raised."""
        subject: TaskSubject = claim.subject
        hook = subject.task.discard_hook
        if hook is None or kind is not HookKind.DISCARD:
            return None

        def call(session: Session) -> object:
            task = subject.task
            args = task.signature.decode(claim.job.args, task.options.upcast)
            returned: object = hook(session, reason, **args)
            return returned

        return run_hook(connection, claim, self._sources, call, kind=kind)
