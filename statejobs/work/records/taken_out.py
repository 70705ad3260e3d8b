"""Notices what an action wrote to its record after it had taken it out of its session."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state

from statejobs.errors import StateJobsError
from statejobs.record.identity import encode_identity
from statejobs.work.records.subject import RecordSubject


def refuse_lost_writes(session: Session, subjects: Sequence[RecordSubject]) -> None:
    """Refuse to complete an action whose writes to its record the flush would not find.

    Raises:
        StateJobsError: The record is not in *session*, nor is a copy that has them.
    """
    for subject in subjects:
        if instance_state(subject.record).session is session or subject.bound.deletes:
            continue
        lost = sorted(_lost(session, subject))
        if lost:
            raise StateJobsError(
                f"its action {subject.bound.action.name!r} wrote {', '.join(lost)} "
                "after it had taken the record out of ctx.session (expunge_all, "
                "expunge, close), which would save nothing of it",
                where=f"{subject.model.name} {encode_identity(subject.identity)}",
                fix=(
                    "Bring it back first with ctx.session.add(self), or expunge "
                    "other objects"
                ),
            )


def _lost(session: Session, subject: RecordSubject) -> Iterator[str]:
    record = subject.record
    mapper = subject.model.mapper
    copy: Any = session.identity_map.get(
        mapper.identity_key_from_primary_key(subject.identity)
    )
    for attribute in instance_state(record).attrs:
        name = attribute.key
        if not attribute.history.has_changes():
            continue
        if copy is None or vars(copy).get(name) != vars(record).get(name):
            yield name
