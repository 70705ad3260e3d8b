"""Makes the jobs that steps promise, and those that people ask for by name."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy.orm import Session

from statejobs.acting import current_actor, current_tenant
from statejobs.errors import TransitionRefusedError, WrongValueError
from statejobs.record.attaching import attach
from statejobs.record.ledger import Step, clock_of
from statejobs.record.model import ResourceModel
from statejobs.record.specs import ActionSpec, BoundTrigger
from statejobs.store.adopt import adopt_jobs
from statejobs.store.binds import connection_for
from statejobs.store.enqueue import Records, enqueue
from statejobs.store.missing import explain_missing_tables
from statejobs.values.clock import IdSource, random_id
from statejobs.values.job import EnqueueResult, JobState, NewJob
from statejobs.values.options import JobOptions
from statejobs.values.redaction import Redaction, strictest
from statejobs.values.shown_arguments import encode_lossy
from statejobs.values.text import REASON_LIMIT, shown_text
from statejobs.values.unrun import ran

IDS = "statejobs.ids"
"""Key in `session.info` of the source of ids."""
WAKE = "statejobs.wake"
"""Key in `session.info` of the engines whose workers are told after the commit."""


def promised_job(
    model: ResourceModel, bound: BoundTrigger, record: Any, record_id: str, step: Step, *,
    now: datetime, ids: IdSource,
) -> NewJob:  # fmt: skip
    """Return the job that *step*, a transition with `run_trigger`, enqueues."""
    options = bound.options
    given = options.args
    if callable(given):
        given = ran(given(record), "args= of", bound.key)
    return new_job(
        model, bound, record_id,
        args=bound.action.signature.encode_call((), dict(given or {})),
        now=now, run_at=now, ids=ids, actor=step.acting.actor, tenant=step.acting.tenant,
    )  # fmt: skip


def enqueue_action(
    session: Session, action: ActionSpec, records: Sequence[Any], *,
    args: Any, kwargs: Any, chosen: JobOptions,
) -> list[EnqueueResult]:  # fmt: skip
    """Enqueue *action* for *records* on the session's own connection.

    Raises:
        ArgumentsError: The arguments do not fit, or would not survive.
        TransitionRefusedError: A record is neither in a source nor being run.
        WrongValueError: One is no record of a class that has the action.
    """
    if not records:
        return []
    encoded = action.signature.encode_call(args, kwargs)
    _refuse_strangers(action, records)
    attach(session, action.name, records)
    now = clock_of(session.info).now()
    run_at = chosen.due(now)
    ids = session.info.get(IDS, random_id)
    new = {}
    former: dict[str, str] = {}
    for record in records:
        model: ResourceModel = type(record).__statejobs__
        bound = model.by_spec[action.trigger]
        _refuse_elsewhere(model, bound, record)
        job = new_job(
            model, bound, model.record_id(record), args=encoded, now=now, run_at=run_at, ids=ids,
            actor=current_actor(), tenant=current_tenant(), priority=chosen.priority,
        )  # fmt: skip
        new[job.dedupe_key] = job
        former.update(bound.former_keys(job.record_id or ""))
    connection = connection_for(session, type(records[0]).__statejobs__.mapper)
    with explain_missing_tables(connection):
        if former:
            adopt_jobs(connection, former, records=_records(records))
        made = enqueue(connection, list(new.values()), records=_records(records))
    results = dict(zip(new, made, strict=True))
    session.info.setdefault(WAKE, set()).add(connection.engine)
    models = [(type(r).__statejobs__, r) for r in records]
    return [results[m.by_spec[action.trigger].dedupe_key(m.record_id(r))] for m, r in models]


def history_args(model: ResourceModel, step: Step) -> str | None:
    """Return the arguments of a step as history keeps them."""
    return encode_lossy(step.args, _redaction(model)) if step.args else None


def history_reason(model: ResourceModel, step: Step) -> str | None:
    """Return why a step was made as history keeps it."""
    return step.reason and shown_text(step.reason, REASON_LIMIT, _redaction(model))


def _redaction(model: ResourceModel) -> Redaction:
    """Return what every app hides that has *model*: a session may be anybody's."""
    return strictest(frozenset(model.redactions))


def _records(records: Sequence[Any]) -> Records:
    """Return *records* as they are locked: before their jobs, as everywhere."""
    model: ResourceModel = type(records[0]).__statejobs__
    key_of = model.mapper.primary_key_from_instance
    return Records(model.mapper.primary_key, [tuple(key_of(record)) for record in records])


def _refuse_strangers(action: ActionSpec, records: Sequence[Any]) -> None:
    """Refuse a key for a record, and the records of others, before anything is flushed."""
    for record in records:
        model: ResourceModel | None = getattr(type(record), "__statejobs__", None)
        if model is not None and action.trigger in model.by_spec:
            continue
        is_class = isinstance(record, type)
        given = f"the class {record.__name__}" if is_class else f"of type {type(record).__name__}"
        raise WrongValueError(
            f"{action.label}: what shall be enqueued is {given}, which has no such "
            "action; give the record itself, such as session.get(Order, id)"
        )


def _refuse_elsewhere(model: ResourceModel, bound: BoundTrigger, record: Any) -> None:
    state = model.kernel.state_of(record)
    if state in bound.sources or state == bound.during:
        return
    raise TransitionRefusedError(
        bound.action.name,
        record=model.label(record),
        state=state,
        reasons=model.why_not_start(record, bound.action),
        available=model.could_fire(record),
    )


def new_job(
    model: ResourceModel, bound: BoundTrigger, record_id: str, *, args: str, now: datetime,
    run_at: datetime, ids: IdSource, actor: str | None, tenant: str | None,
    priority: int | None = None,
) -> NewJob:  # fmt: skip
    """Return a job of *bound* for the record with *record_id*."""
    options = bound.options
    return NewJob(
        key=bound.key,
        queue=options.queue,
        priority=options.priority if priority is None else priority,
        max_attempts=options.max_attempts,
        run_at=run_at,
        state=JobState.SCHEDULED if run_at > now else JobState.QUEUED,
        args=args,
        resource=model.name,
        record_id=record_id,
        dedupe_key=bound.dedupe_key(record_id),
        idempotency_key=ids(),
        actor=actor,
        tenant=tenant,
        tags=msgspec.json.encode(list(options.tags)).decode(),
        enqueued_at=now,
    )
