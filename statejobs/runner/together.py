"""Finishes successes that need no unit of work: many at once, each still by itself.

What cannot be finished so is left untouched: a record that moved, a job that is no longer ours or
was asked for again, a row that someone holds, a value that the database refuses.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from statejobs.runner.port import Ending, Policy
from statejobs.store.faults import is_away
from statejobs.store.following import FollowUp, follow_up
from statejobs.store.landing import Move
from statejobs.store.store import Store
from statejobs.store.together import (
    BRIEFLY,
    complete_each,
    complete_given,
    land_each,
    land_given,
)
from statejobs.values.lifecycle import Landing

log = logging.getLogger("statejobs.runner")


class _Member(NamedTuple):
    ending: Ending
    move: Move | None


def finish_together(
    store: Store, endings: Sequence[Ending], now: datetime
) -> frozenset[int]:
    """Complete the jobs of *endings* that can be completed; waits for no lock.

    Returns:
        Their ids; of the others nothing was written.
    """
    if not endings:
        return frozenset()
    groups = _groups(endings, now)
    if store.has_arrays:
        found = (_finish_given(store, group, now) for group in groups)
        return frozenset(job_id for finished in found for job_id in finished)
    return _finish_each(store, groups, now)


def _groups(endings: Sequence[Ending], now: datetime) -> list[list[_Member]]:
    """Return *endings* with their moves, apart where a statement cannot take them together."""
    groups: dict[object, list[_Member]] = {}
    for ending in endings:
        claim = ending.claim
        move = claim.work.move_of(
            claim, Landing.TARGET, now=now, changes=ending.changes
        )
        alike: object = claim.result is not None
        if move is not None:
            alike = _likeness(claim.policy, move)
        groups.setdefault(alike, []).append(_Member(ending, move))
    return list(groups.values())


def _results(group: Sequence[_Member]) -> list[str] | None:
    """Return what the tasks of *group* returned; None where they returned nothing."""
    found = [member.ending.claim.result for member in group]
    return [result for result in found if result is not None] or None


def _likeness(policy: Policy, move: Move) -> object:
    """Return what the moves share that one statement makes: classes of a family may differ."""
    told = move.history
    return (
        id(policy),
        move.becomes,
        move.columns,
        told and (told.resource, told.name),
        move.follow_up is None,
    )


def _finish_given(store: Store, group: Sequence[_Member], now: datetime) -> set[int]:
    jobs = [member.ending.claim.job for member in group]
    moves = [member.move for member in group if member.move is not None]
    # Tasks wait for no index, foreign key or table of a user's.
    may_wait = bool(moves) or any(job.dedupe_key is not None for job in jobs)
    try:
        with store.single(lock_timeout=BRIEFLY if may_wait else None) as connection:
            if not moves:
                return complete_given(connection, jobs, now, results=_results(group))
            landed = land_given(connection, jobs, moves, now)
            if moves[0].follow_up is not None:
                follow_up(connection, _follow_ups(group, landed), now)
            return landed
    except Exception as error:  # noqa: BLE001 - one by one, they tell whose fault it was
        _leave(group, error)
        return set()


def _finish_each(
    store: Store, groups: Sequence[Sequence[_Member]], now: datetime
) -> frozenset[int]:
    """Do the same in a transaction that no other writer can enter."""
    finished: set[int] = set()
    try:
        with _open(store, groups) as connection:
            for group in groups:
                finished |= _finish_group(
                    connection, group, now, is_alone=len(groups) == 1
                )
    except Exception as error:  # noqa: BLE001 - one by one, they tell whose fault it was
        for group in groups:
            _leave(group, error)
        return frozenset()
    if any(one.jobs for group in groups for one in _follow_ups(group, finished)):
        store.wake()
    return frozenset(finished)


def _open(
    store: Store, groups: Sequence[Sequence[_Member]]
) -> AbstractContextManager[Connection]:
    """Open a transaction; a single task needs none, since one statement ends it."""
    (first, *others) = groups[0]
    is_single = len(groups) == 1 and not others and first.move is None
    return store.single() if is_single else store.transaction()


def _finish_group(
    connection: Connection, group: Sequence[_Member], now: datetime, *, is_alone: bool
) -> set[int]:
    """Finish *group*, or nothing of it; one that *is_alone* has the transaction for itself."""
    jobs = [member.ending.claim.job for member in group]
    moves = [member.move for member in group if member.move is not None]
    savepoint = None if is_alone else connection.begin_nested()
    try:
        if moves:
            is_done = land_each(connection, jobs, moves, now)
            if is_done and moves[0].follow_up is not None:
                follow_up(connection, _follow_ups(group, {j.id for j in jobs}), now)
        else:
            is_done = complete_each(connection, jobs, now, results=_results(group))
    except Exception as error:
        if is_alone or is_away(error):
            raise
        _leave(group, error)
        is_done = False
    if not is_done:
        (savepoint or connection).rollback()
        return set()
    if savepoint is not None:
        savepoint.commit()
    return {job.id for job in jobs}


def _follow_ups(group: Sequence[_Member], finished: Collection[int]) -> list[FollowUp]:
    """Return what follows from those of *group* whose jobs are *finished*."""
    return [
        member.move.follow_up
        for member in group
        if member.move is not None
        and member.move.follow_up is not None
        and member.ending.claim.job.id in finished
    ]


def _leave(group: Sequence[_Member], error: Exception) -> None:
    log.debug("%d jobs are finished one by one: %s", len(group), error)
    for member in group:
        member.ending.claim.is_unsure |= is_away(error)
