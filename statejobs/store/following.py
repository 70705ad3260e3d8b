"""What follows from moves that have landed: jobs that they promise, and jobs that they leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection

from statejobs.store.enqueue_promised import enqueue_promised
from statejobs.store.leave import ask_left_to_stop, cancel_left
from statejobs.values.job import JobOutcome, NewJob
from statejobs.values.unique import Unique


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUp:
    """What follows from the move of one record."""

    jobs: tuple[NewJob, ...] = ()
    """What it promises."""
    unique: Mapping[str, Unique] = field(default_factory=dict)
    """Keys of triggers whose jobs are `Unique` → how."""
    former: Mapping[str, str] = field(default_factory=dict)
    """Former dedupe keys of those → their keys of today."""
    left: Mapping[str, str] = field(default_factory=dict)
    """Dedupe keys of jobs whose state the record left → the reason."""
    orphaned: Mapping[str, str] = field(default_factory=dict)
    """The same of the other jobs of a record that is gone."""


def follow_up(connection: Connection, found: Sequence[FollowUp], now: datetime) -> bool:
    """End and enqueue jobs, with one statement for all of a kind; return whether any were enqueued.

    The caller has locked the records.
    """
    left = {key: reason for one in found for key, reason in one.left.items()}
    if left:
        cancel_left(connection, left, outcome=JobOutcome.LEFT, now=now)
    orphaned = {key: reason for one in found for key, reason in one.orphaned.items()}
    if orphaned:
        cancel_left(connection, orphaned, outcome=JobOutcome.STALE, now=now)
        ask_left_to_stop(connection, orphaned)
    jobs = [job for one in found for job in one.jobs]
    if jobs:
        former = {old: key for one in found for old, key in one.former.items()}
        unique = {key: how for one in found for key, how in one.unique.items()}
        enqueue_promised(connection, jobs, unique, former=former)
    return bool(jobs)
