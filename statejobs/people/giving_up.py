"""Gives up the records of waiting jobs that a person ends: each goes to the failed state."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs
from sqlalchemy import Connection

from statejobs.acting import current_actor
from statejobs.errors import RecordKeptError
from statejobs.people.desk import Desk
from statejobs.people.taking import Standing
from statejobs.store.following import follow_up
from statejobs.store.history import write_history
from statejobs.store.landing import Move, land_all
from statejobs.values.graph import EdgeKind
from statejobs.values.job import Job
from statejobs.work.records.subject import RecordSubject, move_of


def give_up_records(
    desk: Desk,
    connection: Connection,
    jobs: Sequence[tuple[Job, Standing]],
    reason: str,
) -> None:
    """Move the records of waiting *jobs* to the failed state, where there is one.

    Raises:
        RecordKeptError: The database does not let one of them go.
    """
    moves = [
        move
        for job, standing in jobs
        if (move := _move_of(desk, job, standing, reason)) is not None
    ]
    if not moves:
        return
    if not land_all(connection, moves):  # nobody else can: they are locked
        raise RecordKeptError
    actor = desk.registry.actors.text_of(current_actor())
    told = [
        structs.replace(move.history, actor=actor)
        for move in moves
        if move.history is not None
    ]
    if told:
        write_history(connection, told)
    found = [move.follow_up for move in moves if move.follow_up is not None]
    if found:
        follow_up(connection, found, moves[0].at)


def is_given_up(standing: Standing) -> bool:
    """Return whether the record of a waiting job goes to the failed state when that is ended."""
    place = standing.place
    bound = standing.bound
    return place is not None and bound.failed is not None and place[0] in bound.sources


def _move_of(desk: Desk, job: Job, standing: Standing, reason: str) -> Move | None:
    if standing.place is None or not is_given_up(standing):
        return None
    state, version = standing.place
    subject = RecordSubject(
        model=standing.model,
        bound=standing.bound,
        identity=standing.identity,
        source=state,
        state=state,
        version=version,
    )
    return move_of(
        job, subject, EdgeKind.DISCARD, desk.now(), attempt=None, reason=reason
    )
