"""Finishes the successes of many jobs with few statements, on either database."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import groupby
from typing import Any

from sqlalchemy import Connection

from statejobs.record.model import ResourceModel
from statejobs.record.specs import BoundTrigger
from statejobs.runner.port import Ending
from statejobs.store.arrays import fits_array
from statejobs.store.faults import is_away
from statejobs.store.history import write_history
from statejobs.store.hold import lock_jobs
from statejobs.store.store import Store
from statejobs.store.together import BRIEFLY, complete_one, move_and_complete
from statejobs.values.graph import EdgeKind
from statejobs.work.records.changes import move_with_changes, own_columns
from statejobs.work.records.subject import RecordSubject, history_row, landing_parameters

log = logging.getLogger("statejobs.runner")

Group = tuple[ResourceModel, BoundTrigger, tuple[str, ...]]
"""Successes of one group are written by the same statement."""


class _LeftOut(Exception):  # noqa: N818 - an answer, not an error
    """One of a batch is not as it was left."""


def finish_together(store: Store, successes: Sequence[Ending], now: datetime) -> frozenset[int]:
    """Complete the jobs of *successes* that can be completed; return their ids."""
    if store.can_fuse:
        finished: set[int] = set()
        for group, members in _groups(successes):
            try:
                with store.single(lock_timeout=BRIEFLY) as connection:
                    found = _finish_in_one_statement(connection, group, members, now)
                finished |= found
            except Exception as error:  # noqa: BLE001 - one by one, they tell whose fault it was
                log.debug("%d jobs are finished one by one: %s", len(members), error)
                for success in members:
                    success.claim.is_unsure |= is_away(error)
        return frozenset(finished)
    try:
        with store.transaction() as connection:
            for group, members in _groups(successes):
                _finish_in_a_batch(connection, group, members, now)
    except _LeftOut:
        return frozenset()
    return frozenset(success.claim.job.id for success in successes)


def finish_within(
    store: Store, connection: Connection, successes: Sequence[Ending], now: datetime
) -> frozenset[int]:
    """Complete the jobs of *successes* that can be, in the transaction of *connection*.

    Their records are locked already.
    """
    finished: set[int] = set()
    if store.can_fuse:
        lock_jobs(connection, [success.claim.job.id for success in successes])
        for group, members in _groups(successes):
            finished |= _finish_in_one_statement(connection, group, members, now)
        return frozenset(finished)
    for group, members in _groups(successes):
        try:
            with connection.begin_nested():
                _finish_in_a_batch(connection, group, members, now)
        except _LeftOut:
            continue
        finished |= {success.claim.job.id for success in members}
    return frozenset(finished)


def _groups(successes: Sequence[Ending]) -> Iterator[tuple[Group, list[Ending]]]:
    def group_of(success: Ending) -> tuple[int, int, tuple[str, ...]]:
        subject: RecordSubject = success.claim.subject
        return id(subject.model), id(subject.bound), tuple(success.changes)

    for _, found in groupby(sorted(successes, key=group_of), key=group_of):
        members = list(found)
        subject: RecordSubject = members[0].claim.subject
        yield (subject.model, subject.bound, tuple(members[0].changes)), members


def _finish_in_one_statement(
    connection: Connection, group: Group, members: Sequence[Ending], now: datetime
) -> set[int]:
    model, bound, changed = group
    statement = _fused(model, changed)
    if statement is None:
        return set()
    subjects: list[RecordSubject] = [success.claim.subject for success in members]
    given: dict[str, Any] = {
        "given_job_id": [success.claim.job.id for success in members],
        "given_attempt": [success.claim.job.attempt for success in members],
        "given_token": [success.claim.job.token for success in members],
        **{
            f"given_pk_{n}": [subject.identity[n] for subject in subjects]
            for n in range(len(subjects[0].identity))
        },
        "given_was": [subject.state for subject in subjects],
        "given_version": [subject.version for subject in subjects],
        **{f"given_c_{n}": [s.changes[name] for s in members] for n, name in enumerate(changed)},
        "becomes": bound.target,
        "moved_at": now,
    }
    if model.has_history:
        given |= {
            "given_duration": [success.claim.duration for success in members],
            "of_resource": model.name,
            "of_edge": subjects[0].edge_name(EdgeKind.COMPLETE),
        }
    return set(connection.execute(statement, model.names.of(given)).scalars())


@lru_cache(maxsize=1024)
def _fused(model: ResourceModel, changed: tuple[str, ...]) -> Any:
    columns = [own_columns(model)[name] for name in changed]
    if not all(map(fits_array, (*model.table.primary_key.columns, *columns))):
        return None
    return move_and_complete(model.records, columns, has_history=model.has_history)


def _finish_in_a_batch(
    connection: Any, group: Group, members: Sequence[Ending], now: datetime
) -> None:
    """Do the same by executemany, inside a transaction that no other writer can enter.

    Raises:
        _LeftOut: Someone else moved a record, or a job is no longer ours, or was enqueued anew.
    """
    model, bound, changed = group
    moves = [
        landing_parameters(success.claim.subject, bound.target, now, success.changes)
        for success in members
    ]
    ends = [
        {"job_id": job.id, "held_attempt": job.attempt, "held": job.token, "moved_at": now}
        for job in (success.claim.job for success in members)
    ]
    for statement, rows in ((move_with_changes(model, changed), moves), (_COMPLETE_ONE, ends)):
        if connection.execute(statement, rows).rowcount != len(members):
            raise _LeftOut
    if model.has_history:
        write_history(connection, [_history(success, bound.target, now) for success in members])


def _history(success: Ending, target: str, now: datetime) -> Any:
    claim = success.claim
    return history_row(
        claim.job, claim.subject, EdgeKind.COMPLETE, target, now,
        attempt=claim.job.attempt, duration=claim.duration,
    )  # fmt: skip


_COMPLETE_ONE = complete_one()
