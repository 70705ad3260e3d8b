"""What an action does to the existence of its record: declared by `deletes=True`, or refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state

from statejobs.errors import StateJobsError
from statejobs.record.identity import encode_identity
from statejobs.runner.answers import NotWritten
from statejobs.store.records import read_place
from statejobs.values.outcome import Superseded
from statejobs.work.records.hold import Hold
from statejobs.work.records.subject import RecordSubject


def delete_or_refuse(
    session: Session, hold: Hold | None, subjects: Sequence[RecordSubject]
) -> None:
    """Delete the records of actions that completed and declare it; see that others left theirs.

    Args:
        session: Of the action; it is flushed when there is something to delete.
        hold: What locks the records; None when they are locked already.
        subjects: All of one action.

    Raises:
        NotWritten: A record is no longer where its claim left it.
        StateJobsError: An action has deleted its record, or changed its key, and says so nowhere;
            or the record of one that declares it is still there.
    """
    for subject in subjects:
        if not subject.bound.deletes:
            _refuse_undeclared(subject)
    leaving = [subject for subject in subjects if subject.bound.deletes]
    if leaving:
        _delete(session, hold, leaving)


def _delete(
    session: Session, hold: Hold | None, subjects: Sequence[RecordSubject]
) -> None:
    connection = session.connection()
    has_written = hold is None or hold.holds(connection)
    if hold is not None:
        hold.ensure(connection)
    for subject in subjects:
        state = instance_state(subject.record)
        if state.deleted or state.was_deleted:
            continue
        if (
            has_written
            and read_place(connection, subject.model.records, subject.identity) is None
        ):
            continue  # by SQL of the body
        session.add(subject.record)  # the body may have expunged it
        session.delete(subject.record)
    session.flush()
    for subject in subjects:
        _refuse_what_is_there(connection, subject)


@contextmanager
def blaming_the_action(
    session: Session, hold: Hold | None, subjects: Sequence[RecordSubject]
) -> Iterator[None]:
    """Name what an action did to a record that its own transaction had locked and checked.

    Args:
        session: Of the action.
        hold: What locks the records; None when they were locked before the body began.
        subjects: The records.

    Raises:
        StateJobsError: In place of a `Superseded`, when nobody else can have moved one.
    """
    try:
        yield
    except NotWritten as unkept:
        outcome = unkept.outcome
        if not isinstance(outcome, Superseded):
            raise
        if hold is not None and not hold.holds(session.connection()):
            raise
        for subject in subjects:
            _refuse_undeclared(subject)
        raise _by_sql(subjects, outcome.reason) from None


def _refuse_what_is_there(connection: Connection, subject: RecordSubject) -> None:
    if read_place(connection, subject.model.records, subject.identity) is not None:
        raise StateJobsError(
            f"its action {subject.bound.action.name!r} is to delete it, and it is "
            "still there",
            where=_label(subject),
            fix="Does an event of the session, or a rule of the database, keep it?",
        )


def _refuse_undeclared(subject: RecordSubject) -> None:
    state = instance_state(subject.record)
    session = state.session
    if (
        state.deleted
        or state.was_deleted
        or (session and subject.record in session.deleted)
    ):
        raise _undeclared(subject, "has deleted the record")
    mapper = subject.model.mapper
    names = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
    key = tuple(
        state.dict.get(name, was)
        for name, was in zip(names, subject.identity, strict=True)
    )
    if key != subject.identity:
        raise _undeclared(
            subject, f"has changed the record's key to {encode_identity(key)}"
        )


def _undeclared(subject: RecordSubject, did: str) -> StateJobsError:
    bound = subject.bound
    to_do = f"move to {' or '.join(map(repr, bound.targets))}"
    return StateJobsError(
        f"its action {bound.action.name!r} {did}, so its job has nothing to "
        + (to_do if bound.targets else "leave where it is"),
        where=_label(subject),
        fix=(
            "An action that shall delete its record declares "
            f"@{bound.name}.action(…, deletes=True), without a target"
        ),
    )


def _by_sql(subjects: Sequence[RecordSubject], moved: str) -> StateJobsError:
    subject = subjects[0]
    who = (
        _label(subject)
        if len(subjects) == 1
        else f"{len(subjects)} of {subject.model.name}"
    )
    return StateJobsError(
        f"{moved}, by action {subject.bound.action.name!r} itself",
        where=who,
        why="it held the lock",
        fix=(
            "Let it leave key, state and version of its record to the "
            "runner; an action that shall delete its record declares "
            f"@{subject.bound.name}.action(…, deletes=True)"
        ),
    )


def _label(subject: RecordSubject) -> str:
    return f"{subject.model.name} {encode_identity(subject.identity)}"
