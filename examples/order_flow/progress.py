"""Where everything stands, read from the database."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import RowMapping, func, select
from sqlalchemy.orm import Session

from order_flow.models import Order, OrderState, S
from statejobs import StateJobs, metadata, utcnow

ATTEMPTS = metadata.tables["statejobs_attempts"]
TRANSITIONS = metadata.tables["statejobs_transitions"]
IS_OF_AN_ORDER = TRANSITIONS.c.resource == "Order"
FINAL = (S.COMPLETED, S.CANCELLED)

_SILENCE = timedelta(seconds=3)
"""A worker without a heartbeat for so long is taken for dead; it beats every second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One row of the history of an order."""

    seconds: float
    """Since the demo began."""
    order: int
    name: str
    source: str | None
    target: str
    actor: str | None
    attempt: int | None
    reason: str | None

    @property
    def path(self) -> str:
        """From where to where."""
        return f"{self.source} → {self.target}" if self.source else f"→ {self.target}"

    @property
    def cause(self) -> str:
        """What moved it, in a few words."""
        if self.attempt is None:
            return f"{self.name} by {self.actor}"
        reason = self.reason or ""
        for prefix in ("failed: ", "crashed: ", "order_flow.gateway."):
            reason = reason.removeprefix(prefix)
        return (
            f"attempt {self.attempt}: {reason}" if reason else f"attempt {self.attempt}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where everything stands."""

    seconds: float
    states: Mapping[OrderState, int]
    failures: int
    """Attempts that failed."""
    crashes: int
    """Attempts that ended with their worker."""
    retries: int
    """How often the operator sent a failed order on."""
    moves: tuple[Move, ...]
    """The newest, latest first; creations left out."""
    worker: int | None
    """Process of this machine that runs jobs now."""

    @property
    def placed(self) -> int:
        """How many orders there are."""
        return sum(self.states.values())

    @property
    def running(self) -> int:
        """How many orders are being paid now."""
        return self.states[S.PROCESSING]

    @property
    def ended(self) -> int:
        """How many orders are in a final state."""
        return sum(self.states[state] for state in FINAL)


def read_progress(jobs: StateJobs, *, began: datetime, moves: int = 8) -> Progress:
    """Return where everything stands now.

    Args:
        jobs: The shop.
        began: When the demo began.
        moves: How many of the newest moves to read.
    """
    with jobs.session() as session:
        outcomes = count_attempts(session)
        return Progress(
            seconds=(utcnow() - began).total_seconds(),
            states=count_states(session),
            failures=outcomes.get("failed", 0),
            crashes=outcomes.get("crashed", 0),
            retries=count_retries(session),
            moves=_newest_moves(session, began, moves),
            worker=_worker(jobs),
        )


def count_states(session: Session) -> dict[OrderState, int]:
    """Return how many orders each state holds."""
    rows = session.execute(select(Order.state, func.count()).group_by(Order.state))
    found = {row[0]: row[1] for row in rows}
    return {state: found.get(state, 0) for state in OrderState}


def count_attempts(session: Session) -> dict[str, int]:
    """Return how many attempts ended in each way other than success."""
    rows = session.execute(
        select(ATTEMPTS.c.outcome, func.count()).group_by(ATTEMPTS.c.outcome)
    )
    return {row[0]: row[1] for row in rows}


def count_retries(session: Session) -> int:
    """Return how often the operator sent a failed order on."""
    retries = select(func.count()).where(IS_OF_AN_ORDER, TRANSITIONS.c.name == "retry")
    return session.scalar(retries) or 0


def move_of(row: RowMapping, began: datetime) -> Move:
    """Return the move that a row of history tells."""
    known = {
        name: row[name]
        for name in ("name", "source", "target", "actor", "attempt", "reason")
    }
    seconds = (row["at"] - began).total_seconds()
    return Move(seconds=seconds, order=int(row["record_id"]), **known)


def _newest_moves(session: Session, began: datetime, limit: int) -> tuple[Move, ...]:
    query = select(TRANSITIONS).where(IS_OF_AN_ORDER, TRANSITIONS.c.name != "create")
    query = query.order_by(TRANSITIONS.c.id.desc()).limit(limit)
    return tuple(move_of(row, began) for row in session.execute(query).mappings())


def _worker(jobs: StateJobs) -> int | None:
    here, since = socket.gethostname(), utcnow() - _SILENCE
    nodes = [
        n for n in jobs.queries.nodes() if n["host"] == here and n["beat_at"] > since
    ]
    alive = [node["pid"] for node in nodes if _is_alive(node["pid"])]
    return alive[-1] if alive else None


def _is_alive(pid: int) -> bool:
    """Tell at once of a process that was killed; its silence shows only later."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True
