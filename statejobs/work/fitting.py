"""Decodes the arguments of jobs in their claim, before anything moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from statejobs.errors import ArgumentsError
from statejobs.values.arguments import Signature, Upcast
from statejobs.values.job import Job
from statejobs.values.waiting import OTHER_CODE
from statejobs.work.declares import Declarations, Part

Arguments = dict[str, Any]


def fit(signature: Signature, upcast: Upcast | None, stored: str) -> Arguments | str | None:
    """Return the arguments; or why they do not fit; None when the run shall tell what is wrong."""
    try:
        return signature.decode(stored, upcast)
    except ArgumentsError as error:
        return f"{OTHER_CODE}{error}"
    except BaseException:  # noqa: BLE001 - `upcast` is the user's: its error is the attempt's
        return None


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
