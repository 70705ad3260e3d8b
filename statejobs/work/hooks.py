"""Runs what a user wants done when a job has given up, or was superseded."""

from __future__ import annotations

import contextvars
from collections.abc import Callable

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from statejobs.runner.port import Claim
from statejobs.store.engines.defaults import wait_as_long_as_it_takes
from statejobs.values.clock import Sources
from statejobs.values.outcome import HookKind
from statejobs.values.unrun import ran
from statejobs.work.outcomes import identified
from statejobs.work.session import session_info


def run_hook(
    connection: Connection,
    claim: Claim,
    sources: Sources,
    hook: Callable[[Session], object],
    *,
    kind: HookKind,
) -> BaseException | None:
    """Call *hook* in a savepoint and a context of its own, in the name of the job.

    Returns:
        What it raised; nothing that it wrote is kept then.
    """
    wait_as_long_as_it_takes(connection)
    info = session_info(sources, claim.job)

    def call() -> BaseException | None:
        try:
            with (
                identified(claim),
                Session(
                    connection, join_transaction_mode="create_savepoint", info=info
                ) as session,
                session.begin(),
            ):
                ran(hook(session), f"{kind} of", claim.job.key)
        except BaseException as error:  # noqa: BLE001 - whatever it raises, the end stands
            return error
        return None

    return contextvars.copy_context().run(call)
