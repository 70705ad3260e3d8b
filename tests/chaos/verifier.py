"""The last word, in SQL: what was lost, doubled, illegal or left unfinished."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, func, literal, or_, select, text, true, union_all

from statejobs import StateJobs
from statejobs.store.tables import attempts, jobs, transitions
from statejobs.values.job import LIVE, JobState
from tests.chaos.app import (
    FOREIGN,
    RESOURCES,
    Deposit,
    Does,
    Effect,
    Errand,
    Gift,
    State,
)
from tests.chaos.invariants import violations
from tests.chaos.submitter import ACKNOWLEDGED, LOCKED, RECOVERED, TORN
from tests.chaos.ticks import PATIENCE, look_at_ticks

IS_OURS = jobs.c.key.not_like(f"{FOREIGN}%")
"""Whether a job is not of the other app."""
_COSTS_NO_ATTEMPT = (
    "chaos_one_place",
    "chaos_errands.customer",  # as PostgreSQL and SQLite name the place
    "too many connections for",
)
ENDS = (State.COMPLETED, State.CANCELLED)


@dataclass
class Verdict:
    """What was found wrong; each list names records or rows, and is empty when all is well."""

    lost: list[str] = field(default_factory=list)
    """Acknowledged and not there, or completed without its effect; an instant without its tick."""
    doubled: list[str] = field(default_factory=list)
    """More effects through `ctx.session` than completions."""
    illegal: list[str] = field(default_factory=list)
    """Rows of the invariant view, and whatever else must never be seen."""
    unfinished: list[str] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    """By how many seconds ticks began late, the least first."""

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.doubled or self.illegal or self.unfinished)


def verify(
    connection: Connection,
    app: StateJobs,
    *,
    acks: Iterable[str] = (),
    ledger: Iterable[str] = (),
    until: datetime | None = None,
) -> Verdict:
    """Judge a database at rest.

    Args:
        connection: To it.
        app: The app that ran, with everything declared.
        acks: Lines of what submitters were told.
        ledger: Lines of what actions said outside of the database.
        until: When nothing was left to do; the clock goes on, and what it makes later may wait.
    """
    verdict = Verdict()
    ticks_until = None if until is None else until - PATIENCE
    _check_submissions(connection, list(acks), verdict)
    _check_effects(connection, verdict)
    _check_gifts(connection, verdict)
    _check_ends(connection, verdict, ticks_until)
    _check_ticks(connection, app, verdict, ticks_until)
    _check_foreign(connection, verdict)
    _check_attempts(connection, verdict)
    _check_ledger(connection, list(ledger), verdict)
    for row in violations(connection, app):
        place = f"{row['resource']} {row['record_id']}, job {row['job_id']}"
        verdict.illegal.append(f"{row['rule']}: {place} ({row['detail']})")
    if connection.dialect.name == "sqlite":
        found = connection.execute(text("PRAGMA integrity_check")).scalar()
        verdict.illegal += [] if found == "ok" else [f"integrity_check: {found}"]
    return verdict


def _check_submissions(
    connection: Connection, acks: list[str], verdict: Verdict
) -> None:
    told = [line.rstrip("\n").partition(" ") for line in acks]
    promised = {id_ for answer, _, id_ in told if answer in {ACKNOWLEDGED, RECOVERED}}
    there = {id_ for r in (Errand, Deposit) for id_ in connection.scalars(select(r.id))}
    verdict.lost += [f"acknowledged, not there: {id_}" for id_ in promised - there]
    if acks:
        torn = {id_ for answer, _, id_ in told if answer == TORN}
        verdict.illegal += [
            f"nobody asked for it: {id_}" for id_ in there - promised - torn
        ]
        verdict.illegal += [f"half of a commit: {id_}" for id_ in torn]
    verdict.illegal += [
        f"reached a user: {what}" for answer, _, what in told if answer == LOCKED
    ]


def _check_effects(connection: Connection, verdict: Verdict) -> None:
    records = union_all(
        select(Errand.id, Errand.state, Errand.does != Does.TOUCH, Errand.count),
        *(
            select(r.id, r.state, literal(value=True), literal(-1))
            for r in (Gift, Deposit)
        ),
    ).subquery()
    effects = (
        select(func.count()).where(Effect.record == records.c.id).scalar_subquery()
    )
    for id_, state, writes, count, found in connection.execute(
        select(records, effects)
    ):
        is_done = state == State.COMPLETED
        for what, wanted, seen in (
            ("effects", int(is_done and writes), found),
            ("count", int(is_done), int(is_done) if count < 0 else count),
        ):
            if seen != wanted:
                where = verdict.doubled if seen > wanted else verdict.lost
                where.append(f"{what} of {id_} ({state}): {seen}, not {wanted}")


def _check_gifts(connection: Connection, verdict: Verdict) -> None:
    """An enqueue through `ctx.session` happens exactly once, too."""
    given = select(func.count()).where(Gift.giver == Errand.id).scalar_subquery()
    for id_, state, does, found in connection.execute(
        select(Errand.id, Errand.state, Errand.does, given)
    ):
        wanted = int(state == State.COMPLETED and does == Does.SPAWN)
        if found != wanted:
            where = verdict.doubled if found > wanted else verdict.lost
            where.append(f"gifts of {id_} ({state}, {does}): {found}, not {wanted}")


def _check_ticks(
    connection: Connection,
    app: StateJobs,
    verdict: Verdict,
    until: datetime | None,
) -> None:
    found = look_at_ticks(connection, app, until=until)
    verdict.lost += found.missing
    verdict.doubled += found.doubled
    verdict.illegal += found.illegal
    verdict.lags += found.lags


def _check_ends(
    connection: Connection, verdict: Verdict, ticks_until: datetime | None
) -> None:
    for resource in RESOURCES:
        left = connection.execute(
            select(resource.id, resource.state).where(resource.state.not_in(ENDS))
        )
        verdict.unfinished += [
            f"{resource.__name__} {id_} is {state}" for id_, state in left
        ]
    live = [state.value for state in LIVE]
    may_wait = jobs.c.tick_at > (ticks_until or datetime.max.replace(tzinfo=UTC))
    for id_, state in connection.execute(
        select(jobs.c.id, jobs.c.state).where(
            jobs.c.state.in_(live), IS_OURS, func.coalesce(~may_wait, true())
        )
    ):
        verdict.unfinished.append(f"job {id_} is {state}")


def _check_foreign(connection: Connection, verdict: Verdict) -> None:
    touched = select(jobs.c.id, jobs.c.state).where(
        ~IS_OURS, or_(jobs.c.key != FOREIGN + jobs.c.state, jobs.c.attempt != 0)
    )
    for id_, state in connection.execute(touched):
        verdict.illegal.append(f"job {id_} of another app was touched: it is {state}")


def _check_attempts(connection: Connection, verdict: Verdict) -> None:
    """What is no fault of the action may cost it no attempt."""
    said = [attempts.c.message.contains(words) for words in _COSTS_NO_ATTEMPT]
    burnt = select(attempts.c.job_id, attempts.c.attempt, attempts.c.message).where(
        attempts.c.outcome == "failed", or_(*said)
    )
    for job_id, attempt, message in connection.execute(burnt):
        (line, *_) = message.splitlines()
        verdict.illegal.append(f"attempt {attempt} of job {job_id} was burnt: {line}")


def _check_ledger(connection: Connection, ledger: list[str], verdict: Verdict) -> None:
    if not ledger:
        return
    keys = defaultdict(set)
    new = {id_ for r in (Gift, Deposit) for id_ in connection.scalars(select(r.id))}
    for line in ledger:
        record, key, _, version = line.split()
        keys[record].add(key)
        if version == "old" and (record in new or "@" in record):
            verdict.illegal.append(
                f"the old version ran a key it does not know: {record}"
            )
    verdict.illegal += [
        f"{r} ran under {len(k)} keys" for r, k in keys.items() if len(k) > 1
    ]
    for resource in RESOURCES:
        done = connection.scalars(
            select(resource.id).where(resource.state == State.COMPLETED)
        )
        verdict.lost += [
            f"completed, never ran: {id_}" for id_ in done if id_ not in keys
        ]


def count_jobs(connection: Connection) -> dict[str, int]:
    """Return how many jobs there are, and how their attempts ended."""
    counts = {"jobs": connection.scalar(select(func.count()).select_from(jobs)) or 0}
    by_outcome = select(attempts.c.outcome, func.count()).group_by(attempts.c.outcome)
    counts |= {
        f"attempts {outcome}": n for outcome, n in connection.execute(by_outcome)
    }
    by_state = select(jobs.c.state, func.count()).group_by(jobs.c.state)
    return counts | {
        f"jobs {JobState(state)}": n for state, n in connection.execute(by_state)
    }


def find_late(lags: list[float]) -> list[str]:
    """Return what is wrong when half of the ticks began more than a second late."""
    if not lags:
        return ["there was no tick"]
    median = lags[len(lags) // 2]
    return [f"half of the ticks began {median:.1f} s late"] if median > 1 else []


def find_false_rescues(connection: Connection, killed) -> list[str]:
    """Return the attempts that were taken from a worker that nobody had killed."""
    crashed = select(attempts.c.job_id, attempts.c.node).where(
        attempts.c.outcome == "crashed"
    )
    return [
        f"job {job_id} was taken from {node}, which lived"
        for job_id, node in connection.execute(crashed)
        if node not in killed
    ]


@dataclass(frozen=True, kw_only=True)
class Reclaim:
    """How a job of a killed worker came to run again."""

    job: int
    attempt: int
    """That was lost with the worker."""
    crashes: int
    """How many attempts of it had been lost by then."""
    killed: datetime
    possible: datetime
    """When somebody was there to claim it: the kill, or the end of a bad time after it."""
    rescued: datetime
    claimed: datetime

    @property
    def seconds(self) -> float:
        """From when it was possible to the next claim."""
        return (self.claimed - self.possible).total_seconds()

    def __str__(self) -> str:
        times = (self.possible, self.rescued, self.claimed)
        possible, rescued, claimed = (
            (at - self.killed).total_seconds() for at in times
        )
        return (
            f"job {self.job}, attempt {self.attempt}, crash {self.crashes}: killed "
            f"{self.killed:%H:%M:%S}, possible after {possible:.1f} s, rescued after "
            f"{rescued:.1f} s, claimed after {claimed:.1f} s"
        )


def find_reclaims(
    connection: Connection, app: StateJobs, killed, away=()
) -> list[Reclaim]:
    """Return for each job of a killed node how another one claimed it, fastest first.

    It is measured from the end of the last time in which nobody could.

    Args:
        connection: To the database.
        app: The app that ran.
        killed: Node id → when its process was killed.
        away: From when to when nobody could: the database was away, say.
    """
    starts = [
        edge.name
        for model in app.registry.resources.values()
        for edge in model.spec.edges
        if edge.name.endswith(".start")
    ]
    next_start = (
        select(func.min(transitions.c.at))
        .where(
            transitions.c.resource == jobs.c.resource,
            transitions.c.record_id == jobs.c.record_id,
            transitions.c.job_id == attempts.c.job_id,
            transitions.c.name.in_(starts),
            transitions.c.attempt
            > attempts.c.attempt,  # clocks of nodes differ a little
        )
        .scalar_subquery()
    )
    earlier = attempts.alias()
    crashes = (
        select(func.count())
        .where(
            earlier.c.job_id == attempts.c.job_id,
            earlier.c.outcome == "crashed",
            earlier.c.finished_at <= attempts.c.finished_at,
        )
        .scalar_subquery()
    )
    found = (
        attempts.c.job_id,
        attempts.c.attempt,
        attempts.c.node,
        attempts.c.finished_at,
    )
    rows = connection.execute(
        select(*found, crashes, next_start)
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .where(attempts.c.outcome == "crashed")
    )
    reclaims = [
        Reclaim(
            job=job,
            attempt=attempt,
            crashes=count,
            killed=killed[node],
            rescued=rescued,
            claimed=claimed,
            possible=max([killed[node], *(back for _, back in away if back < claimed)]),
        )
        for job, attempt, node, rescued, count, claimed in rows
        if claimed
        and node in killed
        and claimed > killed[node]  # else rescued from a pause
    ]
    return sorted(reclaims, key=lambda reclaim: reclaim.seconds)


def read_lines(file: Path) -> list[str]:
    """Return the lines of *file*; none when nobody wrote it."""
    return file.read_text().splitlines() if file.exists() else []
