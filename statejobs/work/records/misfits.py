"""Records that stay where they are, since the arguments of their jobs fit other code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from statejobs.errors import ArgumentsError
from statejobs.record.specs import BoundTrigger
from statejobs.store.records import Identity
from statejobs.values.job import Job
from statejobs.values.waiting import OTHER_CODE
from statejobs.work.declares import Declarations, Part
from statejobs.work.records.claim import LockedRecords

Kept = Mapping[Identity, dict[str, Any] | None]
"""Key of a record → the arguments of its job; None when the run is to meet what is wrong."""


def leave_misfits(
    connection: Connection,
    declarations: Declarations,
    *,
    key: str,
    resource: str,
    locked: LockedRecords,
    jobs: Mapping[Identity, tuple[Job, BoundTrigger]],
) -> Kept:
    """Leave those of *locked* where they are whose jobs other code may fit; return the arguments.

    Raises:
        LookupError: A record is in a state that no node knows.
    """
    if locked.misfits:
        if not declarations.may_fit_others(connection, Part.RESOURCES, resource):
            raise LookupError(next(iter(locked.misfits.values())))
        locked.misfits = {
            i: f"{OTHER_CODE}{reason}" for i, reason in locked.misfits.items()
        }
    found = {
        identity: bound.action.signature.fit(job.args, bound.options.upcast)
        for identity, (job, bound) in jobs.items()
        if identity in locked.found
    }
    misfits = {
        i: reason for i, reason in found.items() if isinstance(reason, ArgumentsError)
    }
    if misfits and declarations.may_fit_others(connection, Part.KEYS, key):
        for identity, reason in misfits.items():
            del locked.found[identity]
            locked.misfits[identity] = f"{OTHER_CODE}{reason}"
    return {
        i: None if isinstance(args, ArgumentsError) else args
        for i, args in found.items()
    }
