"""Loads what a trigger's `load=` names, when an attempt begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from statejobs.record.related import loader_options
from statejobs.runner.undone import ours
from statejobs.store.record_rows import load_whole
from statejobs.work.outcomes import RecordMoved
from statejobs.work.records.hidden import moved_or_hidden
from statejobs.work.records.hold import Hold
from statejobs.work.records.subject import RecordSubject


def load_related(
    session: Session,
    subjects: Sequence[RecordSubject],
    hold: Hold | None,
) -> None:
    """Load the records of *subjects* anew as their trigger says, with one query; locks nothing.

    Raises:
        RecordMoved: One is no longer where its claim left it; *hold* knows how the attempt ends.
        UndoneError: The database could not load them.
    """
    model = subjects[0].model
    options = loader_options(model, subjects[0].bound)
    with ours():
        dialect = session.connection().dialect.name
        identities = [subject.identity for subject in subjects]
        query = load_whole(model.cls, model.records, identities, dialect)
        anew = query.options(*options).execution_options(populate_existing=True)
        key_of = model.mapper.primary_key_from_instance
        found = {
            tuple(key_of(record)): record for record in session.scalars(anew).unique()
        }
    for subject in subjects:
        record = found.get(subject.identity)
        if record is None or _place(record, subject) != (
            subject.state,
            subject.version,
        ):
            _refuse(session, subject, hold)


def _place(record: Any, subject: RecordSubject) -> tuple[str, int]:
    return subject.model.kernel.state_of(record), record.state_version


def _refuse(session: Session, subject: RecordSubject, hold: Hold | None) -> None:
    outcome = moved_or_hidden(session.connection(), subject)
    if hold is not None:
        hold.outcome = outcome
    raise RecordMoved("its record was moved away, or is hidden")
