"""A worker that stands still in an open transaction must not hold its locks for good.

A process that was stopped, or whose machine has gone, keeps its record and job locked: nobody can
rescue the job, and users' writes wait. The server ends such a transaction, and says so to whoever
comes back to it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import Engine, ExceptionContext, event

from statejobs.store.faults import sqlstate_of

_ENDED_IDLE = "25P03"
_MILLISECOND = timedelta(milliseconds=1)
_EXPLAINED = (
    "the transaction stood idle for longer than a worker's may: twice the lease, `timeout` and "
    "`timeout_grace` together, or `idle_in_transaction` of WorkerSettings, whichever is longest; "
    "write after slow calls, not before"
)


def limit_idleness(limit: timedelta) -> str:
    """Return SQL after which the present transaction is ended when it stands idle for *limit*."""
    return (
        f"SET LOCAL idle_in_transaction_session_timeout TO {-(-limit // _MILLISECOND)}"
    )


def explain_idleness(engine: Engine) -> None:
    """Let the error of a transaction that was ended for standing idle say why."""
    # Views of one engine share its dialect, and each would add another.
    if not event.contains(engine.dialect, "handle_error", _explain):
        event.listen(engine.dialect, "handle_error", _explain)


def _explain(context: ExceptionContext) -> None:
    error: Any = context.sqlalchemy_exception
    if error is not None and sqlstate_of(error) == _ENDED_IDLE:
        error.add_detail(_EXPLAINED)
