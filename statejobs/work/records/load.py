"""Loads the records of jobs into a session of a person's act."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from statejobs.record.identity import decode_identities
from statejobs.record.model import ResourceModel
from statejobs.store.record_rows import load_whole


def load_records(
    session: Session, model: ResourceModel, record_ids: Sequence[str]
) -> list[Any | None]:
    """Return the records with these stored keys; None for one that is not there.

    Raises:
        LookupError: One is in a state that this code does not know.
    """
    keys = decode_identities(model.mapper, record_ids)
    known = [key for key in keys if key is not None]
    if not known:
        return [None] * len(keys)
    dialect = session.get_bind().dialect.name
    query = load_whole(model.cls, model.records, known, dialect)
    found = {
        tuple(model.mapper.primary_key_from_instance(record)): record
        for record in session.scalars(query).unique()
    }
    return [None if key is None else found.get(key) for key in keys]
