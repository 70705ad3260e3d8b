"""Decodes the arguments of jobs in their claim, before anything moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from statejobs.errors import ArgumentsError
from statejobs.resource.model import BoundTrigger
from statejobs.triggers.claiming import LockedRecords
from statejobs.triggers.declares import Declarations, Part
from statejobs.triggers.records import Identity
from statejobs.values.arguments import Signature, Upcast
from statejobs.values.job import Job
from statejobs.values.waiting import OTHER_CODE

Arguments = dict[str, Any]
Kept = Mapping[Identity, Arguments | None]
"""Key of a record → the arguments of its job; None when the run is to meet what is wrong."""


def fit(signature: Signature, upcast: Upcast | None, stored: str) -> Arguments | str | None:
    """Return the arguments; or why they do not fit; None when the run shall tell what is wrong."""
    try:
        return signature.decode(stored, upcast)
    except ArgumentsError as error:
        return f"{OTHER_CODE}{error}"
    except BaseException:  # noqa: BLE001 - `upcast` is the user's: its error is the attempt's
        return None


def leave_misfits(
    connection: Connection, declarations: Declarations, *, key: str, resource: str,
    locked: LockedRecords, jobs: Mapping[Identity, tuple[Job, BoundTrigger]],
) -> Kept:  # fmt: skip
    """Leave those of *locked* where they are whose jobs other code may fit; return the arguments.

    Raises:
        LookupError: A record is in a state that no node knows.
    """
    if locked.misfits:
        if not declarations.may_fit_others(connection, Part.RESOURCES, resource):
            raise LookupError(next(iter(locked.misfits.values())))
        locked.misfits = {i: f"{OTHER_CODE}{why}" for i, why in locked.misfits.items()}
    found = {
        identity: fit(bound.action.signature, bound.options.upcast, job.args)
        for identity, (job, bound) in jobs.items()
        if identity in locked.found
    }
    misfits = {identity: why for identity, why in found.items() if isinstance(why, str)}
    if misfits and declarations.may_fit_others(connection, Part.KEYS, key):
        for identity, why in misfits.items():
            del locked.found[identity]
            locked.misfits[identity] = why
    return {i: None if isinstance(args, str) else args for i, args in found.items()}


def fit_tasks(
    connection: Connection, declarations: Declarations,
    jobs: Sequence[tuple[Job, Signature, Upcast | None]],
) -> tuple[list[tuple[Job, Arguments | None]], list[tuple[Job, str]]]:  # fmt: skip
    """Return the jobs that start, with their arguments; and those that other code may fit."""
    ready: list[tuple[Job, Arguments | None]] = []
    misfits: list[tuple[Job, str]] = []
    for job, signature, upcast in jobs:
        found = fit(signature, upcast, job.args)
        if not isinstance(found, str):
            ready.append((job, found))
        elif declarations.may_fit_others(connection, Part.KEYS, job.key):
            misfits.append((job, found))
        else:
            ready.append((job, None))
    return ready, misfits
