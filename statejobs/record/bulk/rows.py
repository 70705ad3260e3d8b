"""One step that many records make together: their history and their jobs, a statement for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection, FromClause

from statejobs.record.ledger import Step
from statejobs.record.model import ResourceModel
from statejobs.record.written import history_args, history_reason, new_job
from statejobs.store import bulk as statements
from statejobs.store.bulk import MovedRow
from statejobs.store.history import history_from
from statejobs.values.graph import Promise
from statejobs.values.job import NewJob

MOST_ROWS = 100_000
"""Of one statement that takes its rows from Python."""


def by_tenant(
    model: ResourceModel, step: Step, moved: Sequence[MovedRow]
) -> Iterator[tuple[Step, Sequence[MovedRow]]]:
    """Yield *moved* in groups of one tenant, at most `MOST_ROWS` each, with their step.

    Raises:
        TenantMismatchError: Somebody named another.
    """
    groups: dict[str | None, Sequence[MovedRow]] = {step.acting.tenant: moved}
    if model.tenant is not None:
        groups = _grouped(model, step, moved)
    for tenant, rows in groups.items():
        own = replace(step, acting=step.acting._replace(tenant=tenant))
        for start in range(0, len(rows), MOST_ROWS):
            yield own, rows[start : start + MOST_ROWS]


def _grouped(
    model: ResourceModel, step: Step, moved: Sequence[MovedRow]
) -> dict[str | None, Sequence[MovedRow]]:
    groups: dict[str | None, list[MovedRow]] = {}
    for row in moved:
        tenant = step.acting.tenant
        if row.tenant is not None:
            label = f"{model.cls.__name__} {row.record_id}"
            tenant = model.refuse_other_tenant(label, str(row.tenant), step.acting)
        groups.setdefault(tenant, []).append(row)
    return dict(groups)


def history_of_all(
    model: ResourceModel, step: Step, rows: FromClause, *, job: Mapping[str, int | None]
) -> Any:
    """Write that each of *rows* (of `MovedRow`) made *step*, in *job*; `step.at` says when."""
    return history_from(
        rows,
        {
            "record_id": rows.c.record_id,
            "source": rows.c.was,
            "version": rows.c.version,
        },
        {
            "resource": model.name,
            "name": step.name,
            "target": step.target,
            "actor": model.actors.text_of(step.acting.actor),
            "tenant": step.acting.tenant,
            **job,
            "args": history_args(model, step),
            "reason": history_reason(model, step),
            "duration": None,
            "at": step.at,
        },
    )


def jobs_of_all(
    connection: Connection,
    model: ResourceModel,
    promise: Promise,
    step: Step,
    rows: FromClause,
    *,
    salt: str,
) -> Any:
    """Enqueue the job that *step* promises for each of *rows*; returns its `outcome`.

    Args:
        connection: The caller's.
        model: Whose records they are.
        promise: Of a trigger whose arguments are the same for all.
        step: What they all do.
        rows: The records, as `MovedRow`s.
        salt: A fresh random id, of which the idempotency keys are made.
    """
    bound = model.triggers[promise.key]
    job = job_of_all(model, promise, step, salt=salt)
    same = {**asdict(job), "state": job.state.value}
    return statements.jobs_of_rows(
        connection.dialect.name, rows, same, key_prefix=bound.prefix, salt=salt
    )


def job_of_all(
    model: ResourceModel, promise: Promise, step: Step, *, salt: str
) -> NewJob:
    """Return the job of each record, but for what it has of its own."""
    bound = model.triggers[promise.key]
    given = bound.options.args or {}
    assert not callable(given)  # noqa: S101 - those are made of each record
    assert step.at is not None  # noqa: S101 - a step of many is made now
    return new_job(
        model,
        bound,
        "",
        args=bound.action.signature.encode_call((), given),
        now=step.at,
        run_at=step.at + promise.delay,
        ids=lambda: salt,
        actor=model.actors.text_of(step.acting.actor),
        tenant=step.acting.tenant,
    )
