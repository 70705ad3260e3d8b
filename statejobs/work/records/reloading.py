"""Loads the records of a call anew that came to nothing, and had changed them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from statejobs.record.model import ResourceModel
from statejobs.runner.port import Claim
from statejobs.store.record_rows import load_whole
from statejobs.store.store import Store
from statejobs.work.records.subject import RecordSubject


def reload(store: Store, claims: Sequence[Claim]) -> frozenset[int]:
    """Load the records again; return the ids of jobs whose record is where it was left."""
    model: ResourceModel = claims[0].subject.model
    identities = [claim.subject.identity for claim in claims]
    query = load_whole(model.cls, model.records, identities, store.dialect)
    with Session(store.working, autoflush=False, expire_on_commit=False) as session:
        records: list[Any] = [*session.scalars(query).unique()]
        key_of = model.mapper.primary_key_from_instance
        found = {tuple(key_of(record)): record for record in records}
        session.expunge_all()
    return frozenset(claim.job.id for claim in claims if _stands(claim.subject, found))


def _stands(subject: RecordSubject, found: dict[Any, Any]) -> bool:
    record = found.get(subject.identity)
    if record is None:
        return False
    place = (subject.model.kernel.state_of(record), record.state_version)
    if not subject.stands(place):
        return False
    subject.record = record
    return True
