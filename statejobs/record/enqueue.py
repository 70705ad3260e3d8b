"""Enqueues the jobs that people ask for by name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

from statejobs.acting import current_acting
from statejobs.errors import TransitionRefusedError, WrongValueError
from statejobs.record.attaching import attach
from statejobs.record.ledger import IDS, clock_of
from statejobs.record.model import ResourceModel
from statejobs.record.specs import ActionSpec, BoundTrigger
from statejobs.record.written import new_job, wake_after_commit
from statejobs.store.binds import connection_for
from statejobs.store.enqueue import Records, enqueue
from statejobs.store.enqueue_unique import enqueue_unique
from statejobs.store.missing import explain_missing_tables
from statejobs.values.clock import random_id
from statejobs.values.job import EnqueueResult
from statejobs.values.job_options import JobOptions


def enqueue_action(
    session: Session,
    action: ActionSpec,
    records: Sequence[Any],
    *,
    args: Any,
    kwargs: Any,
    chosen: JobOptions,
) -> list[EnqueueResult]:
    """Enqueue *action* for *records* on the session's own connection.

    Raises:
        ArgumentsError: The arguments do not fit, or would not survive.
        TransitionRefusedError: A record is neither in a source nor being run.
        DuplicateJobError: A record has a job, and the trigger is `Unique` and raises.
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
    acting = current_acting()
    for record in records:
        model: ResourceModel = type(record).__statejobs__
        bound = model.by_spec[action.trigger]
        _refuse_elsewhere(model, bound, record)
        record_id = model.record_id(record)
        key = f"{bound.prefix}{record_id}"
        new[key] = new_job(
            model,
            bound,
            record_id,
            args=encoded,
            now=now,
            run_at=run_at,
            ids=ids,
            actor=model.actors.text_of(acting.actor),
            tenant=model.tenant_of(record, acting),
            chosen=chosen,
            record=record,
        )
        former.update({f"{old}{record_id}": key for old in bound.former_prefixes})
    connection = connection_for(session, type(records[0]).__statejobs__.mapper)
    unique = action.trigger.options.unique
    put = enqueue if unique is None else partial(enqueue_unique, unique=unique)
    with explain_missing_tables(connection):
        made = put(
            connection, list(new.values()), former=former, records=_records(records)
        )
    results = dict(zip(new, made, strict=True))
    wake_after_commit(session, connection)
    models = [(type(r).__statejobs__, r) for r in records]
    return [
        results[f"{m.by_spec[action.trigger].prefix}{m.record_id(r)}"]
        for m, r in models
    ]


def _records(records: Sequence[Any]) -> Records:
    """Return *records* as they are locked: before their jobs, as everywhere."""
    model: ResourceModel = type(records[0]).__statejobs__
    key_of = model.mapper.primary_key_from_instance
    return Records(
        model.mapper.primary_key, [tuple(key_of(record)) for record in records]
    )


def _refuse_strangers(action: ActionSpec, records: Sequence[Any]) -> None:
    """Refuse a key for a record, and the records of others, before anything is flushed."""
    for record in records:
        model: ResourceModel | None = getattr(type(record), "__statejobs__", None)
        if model is not None and action.trigger in model.by_spec:
            continue
        is_class = isinstance(record, type)
        given = (
            f"the class {record.__name__}"
            if is_class
            else f"of type {type(record).__name__}"
        )
        raise WrongValueError(
            f"what shall be enqueued is {given}, which has no such action",
            where=action.label,
            fix="give the record itself, such as session.get(Order, id)",
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
