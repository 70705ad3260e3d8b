"""Writes what steps leave beside their records: history, and jobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from statejobs.record.leaving import end_jobs_left
from statejobs.record.ledger import IDS, WAKE, Step
from statejobs.record.lives import begin_lives
from statejobs.record.model import ResourceModel
from statejobs.record.move import Moved, Plan
from statejobs.record.specs import BoundTrigger
from statejobs.store.enqueue import enqueue
from statejobs.store.enqueue_promised import enqueue_promised
from statejobs.store.history import HistoryRow, write_history
from statejobs.values.clock import IdSource, random_id
from statejobs.values.graph import Promise
from statejobs.values.job import JobState, NewJob
from statejobs.values.job_options import AT_ONCE, JobOptions
from statejobs.values.meta import stored_meta
from statejobs.values.redaction import Redaction, strictest
from statejobs.values.shown_arguments import encode_lossy
from statejobs.values.text import REASON_LIMIT, shown_text
from statejobs.values.unique import Unique, held_until
from statejobs.values.unrun import ran


def write_beside(
    session: Session, connection: Connection, moved: Sequence[Moved], plan: Plan
) -> None:
    """Write history and jobs of *moved*, whose records a flush has written."""
    _complete_acting(moved)
    history = [
        row for one in moved if one.model.has_history for row in _history(one, plan)
    ]
    if history:
        write_history(connection, history)
    stored = [one for one in moved if not one.is_new]
    leaving = [
        one
        for one in stored
        if any(s.source in one.model.job_states for s in one.steps)
    ]
    if leaving:
        end_jobs_left(connection, leaving, plan.now)
    if len(stored) < len(moved):
        begin_lives(connection, [one for one in moved if one.is_new], plan.now)
    jobs, former, unique = _promised(moved, plan.now, session.info.get(IDS, random_id))
    if unique:
        enqueue_promised(connection, list(jobs.values()), unique, former=former)
    elif jobs:
        enqueue(connection, list(jobs.values()), former=former)
    if jobs:
        wake_after_commit(session, connection)


def _complete_acting(moved: Sequence[Moved]) -> None:
    """Let steps have the text of who made them, and the tenant, as their rows keep both."""
    for one in moved:
        for step in one.steps:
            if one.model.tenant is not None:
                tenant = one.model.tenant_of(one.record, step.acting)
                step.acting = step.acting._replace(tenant=tenant)
            actor = step.acting.actor
            if actor is not None and not isinstance(actor, str):
                text = one.model.actors.text_of(actor)
                step.acting = step.acting._replace(actor=text)


def _history(moved: Moved, plan: Plan) -> Iterator[HistoryRow]:
    """Return a row for each step of a record, which the action of a job made, if one did."""
    model = moved.model
    for version, step in zip(moved.versions, moved.steps, strict=True):
        assert step.at is not None  # noqa: S101 - the plan of a flush gives each its time
        yield HistoryRow(
            resource=model.name,
            record_id=moved.record_id,
            name=step.name,
            source=step.source,
            target=step.target,
            version=version,
            actor=step.acting.actor,
            tenant=step.acting.tenant,
            args=history_args(model, step),
            reason=history_reason(model, step),
            duration=step.duration,
            at=step.at,
            **plan.job,
        )


def _promised(
    moved: Sequence[Moved], now: datetime, ids: IdSource
) -> tuple[dict[str, NewJob], dict[str, str], dict[str, Unique]]:
    """Return the jobs that steps promise by dedupe key, and the former keys of each.

    And the keys of triggers whose jobs are `Unique`, with how. Those whose record rests no longer
    in a source are dropped.
    """
    jobs: dict[str, NewJob] = {}
    former: dict[str, str] = {}
    unique: dict[str, Unique] = {}
    for one in moved:
        for step in one.steps:
            for promise in step.promises:
                bound = one.model.triggers[promise.key]
                if one.state not in bound.sources:
                    continue
                if bound.options.unique is not None:
                    unique[bound.key] = bound.options.unique
                key = f"{bound.prefix}{one.record_id}"
                jobs[key] = promised_job(
                    one.model,
                    promise,
                    one.record,
                    one.record_id,
                    now=now,
                    ids=ids,
                    actor=step.acting.actor,
                    tenant=step.acting.tenant,
                )
                if not one.is_new:
                    former.update(
                        {f"{old}{one.record_id}": key for old in bound.former_prefixes}
                    )
    return jobs, former, unique


def promised_job(
    model: ResourceModel,
    promise: Promise,
    record: object,
    record_id: str,
    *,
    now: datetime,
    ids: IdSource,
    actor: str | None,
    tenant: str | None,
) -> NewJob:
    """Return the job that is promised where *record* is led."""
    bound = model.triggers[promise.key]
    given = bound.options.args
    if callable(given):
        given = ran(given(record), "args= of", bound.key)
    signature = bound.action.signature
    takes_some = given or signature.required
    return new_job(
        model,
        bound,
        record_id,
        args=signature.encode_call((), dict(given or {})) if takes_some else "{}",
        now=now,
        run_at=now + promise.delay,
        ids=ids,
        actor=actor,
        tenant=tenant,
        record=record,
    )


def new_job(
    model: ResourceModel,
    bound: BoundTrigger,
    record_id: str,
    *,
    args: str,
    now: datetime,
    run_at: datetime,
    ids: IdSource,
    actor: str | None,
    tenant: str | None,
    chosen: JobOptions = AT_ONCE,
    record: object = None,
) -> NewJob:
    """Return a job of *bound* for the record with *record_id*; *record* itself, where it is known.

    Raises:
        WrongValueError: What `meta=` makes of the record cannot be stored.
    """
    options = bound.options
    most = chosen.max_attempts
    tags = options.tags if chosen.tags is None else chosen.tags
    meta = options.meta if chosen.meta is None else chosen.meta
    return NewJob(
        key=bound.key,
        queue=options.queue if chosen.queue is None else chosen.queue,
        priority=options.priority if chosen.priority is None else chosen.priority,
        max_attempts=options.max_attempts if most is None else most,
        run_at=run_at,
        state=JobState.SCHEDULED if run_at > now else JobState.QUEUED,
        args=args,
        resource=model.name,
        record_id=record_id,
        dedupe_key=f"{bound.prefix}{record_id}",
        idempotency_key=ids(),
        actor=options.default_actor if actor is None else actor,
        tenant=tenant,
        tags=msgspec.json.encode(list(tags)).decode(),
        meta=None if meta is None else stored_meta(meta, key=bound.key, record=record),
        allowance=most,
        enqueued_at=now,
        unique_until=None
        if options.unique is None
        else held_until(options.unique, now),
    )


def wake_after_commit(session: Session, connection: Connection) -> None:
    """Let workers be told after the commit of *session*; PostgreSQL tells them with it."""
    if connection.dialect.name == "sqlite":
        session.info.setdefault(WAKE, set()).add(connection.engine)


def history_args(model: ResourceModel, step: Step) -> str | None:
    """Return the arguments of a step as history keeps them."""
    return encode_lossy(step.args, _redaction(model)) if step.args else None


def history_reason(model: ResourceModel, step: Step) -> str | None:
    """Return why a step was made as history keeps it."""
    return step.reason and shown_text(step.reason, REASON_LIMIT, _redaction(model))


def _redaction(model: ResourceModel) -> Redaction:
    """Return what every app hides that has *model*: a session may be anybody's."""
    return strictest(frozenset(model.redactions))
