"""Ends the jobs that records left behind: those that waited, and those that ran."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from sqlalchemy import Connection

from statejobs.record.move import Moved
from statejobs.store.leave import ask_left_to_stop, cancel_left
from statejobs.values.job import JobOutcome


def end_jobs_left(
    connection: Connection, moved: Sequence[Moved], now: datetime
) -> None:
    """Cancel the jobs that wait for *moved* in vain, and ask those to stop that run on them."""
    left: dict[str, str] = {}
    abandoned: dict[str, str] = {}
    for one in moved:
        left.update(_left(one))
        abandoned.update(_abandoned(one))
    if left:
        cancel_left(connection, left, outcome=JobOutcome.LEFT, now=now)
    if abandoned:
        ask_left_to_stop(connection, abandoned)


def _left(moved: Moved) -> Iterator[tuple[str, str]]:
    """Waiting jobs whose record has left their sources, with the transition's name."""
    for bound in moved.model.triggers.values():
        departures = moved.model.departures[bound.key]
        leaving = [step for step in moved.steps if step.source in departures]
        if leaving and moved.state not in bound.sources:
            for key in bound.dedupe_keys(moved.record_id):
                yield key, f"left by {leaving[-1].name}"


def _abandoned(moved: Moved) -> Iterator[tuple[str, str]]:
    """Running jobs whose record was moved away under them."""
    away = [step for step in moved.steps if step.leaves]
    for bound in moved.model.triggers.values():
        leaving = [
            step for step in away if bound.during and step.source == bound.during
        ]
        if leaving:
            for key in bound.dedupe_keys(moved.record_id):
                yield key, f"left by {leaving[-1].name}"
