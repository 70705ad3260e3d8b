"""The last word, in SQL: what was lost, doubled, illegal or left unfinished."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection, func, literal, or_, select, text, union_all

from statejobs import StateJobs
from statejobs.domain.job import LIVE, JobState
from statejobs.store.tables import attempts, jobs, transitions
from tests.chaos.app import FOREIGN, Does, Effect, Errand, Gift, State
from tests.chaos.invariants import violations
from tests.chaos.submitter import ACKNOWLEDGED, LOCKED, RECOVERED, TORN

IS_OURS = jobs.c.key.not_like(f"{FOREIGN}%")
"""Whether a job is not of the other app."""
ENDS = (State.COMPLETED, State.CANCELLED)


@dataclass
class Verdict:
    """What was found wrong; each list names records or rows, and is empty when all is well."""

    lost: list[str] = field(default_factory=list)
    """Acknowledged and not there, or completed without its effect."""
    doubled: list[str] = field(default_factory=list)
    """More effects through `ctx.session` than completions."""
    illegal: list[str] = field(default_factory=list)
    """Rows of the invariant view, and whatever else must never be seen."""
    unfinished: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.doubled or self.illegal or self.unfinished)


def verify(
    connection: Connection, app: StateJobs, *, acks: Iterable[str] = (), ledger: Iterable[str] = ()
) -> Verdict:
    """Judge a database at rest.

    Args:
        connection: To it.
        app: The app that ran, with everything declared.
        acks: Lines of what submitters were told.
        ledger: Lines of what actions said outside of the database.
    """
    verdict = Verdict()
    _check_submissions(connection, list(acks), verdict)
    _check_effects(connection, verdict)
    _check_gifts(connection, verdict)
    _check_ends(connection, verdict)
    _check_foreign(connection, verdict)
    _check_ledger(connection, list(ledger), verdict)
    for row in violations(connection, app):
        place = f"{row['resource']} {row['record_id']}, job {row['job_id']}"
        verdict.illegal.append(f"{row['rule']}: {place} ({row['detail']})")
    if connection.dialect.name == "sqlite":
        found = connection.execute(text("PRAGMA integrity_check")).scalar()
        verdict.illegal += [] if found == "ok" else [f"integrity_check: {found}"]
    return verdict


def _check_submissions(connection: Connection, acks: list[str], verdict: Verdict) -> None:
    told = [line.rstrip("\n").partition(" ") for line in acks]
    promised = {id_ for answer, _, id_ in told if answer in {ACKNOWLEDGED, RECOVERED}}
    there = set(connection.scalars(select(Errand.id)))
    verdict.lost += [f"acknowledged, not there: {id_}" for id_ in promised - there]
    if acks:
        torn = {id_ for answer, _, id_ in told if answer == TORN}
        verdict.illegal += [f"nobody asked for it: {id_}" for id_ in there - promised - torn]
        verdict.illegal += [f"half of a commit: {id_}" for id_ in torn]
    verdict.illegal += [f"reached a user: {what}" for answer, _, what in told if answer == LOCKED]


def _check_effects(connection: Connection, verdict: Verdict) -> None:
    records = union_all(
        select(Errand.id, Errand.state, Errand.does != Does.TOUCH, Errand.count),
        select(Gift.id, Gift.state, literal(value=True), literal(-1)),
    ).subquery()
    effects = select(func.count()).where(Effect.record == records.c.id).scalar_subquery()
    for id_, state, writes, count, found in connection.execute(select(records, effects)):
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


def _check_ends(connection: Connection, verdict: Verdict) -> None:
    for resource in (Errand, Gift):
        left = connection.execute(
            select(resource.id, resource.state).where(resource.state.not_in(ENDS))
        )
        verdict.unfinished += [f"{resource.__name__} {id_} is {state}" for id_, state in left]
    live = [state.value for state in LIVE]
    for id_, state in connection.execute(
        select(jobs.c.id, jobs.c.state).where(jobs.c.state.in_(live), IS_OURS)
    ):
        verdict.unfinished.append(f"job {id_} is {state}")


def _check_foreign(connection: Connection, verdict: Verdict) -> None:
    touched = select(jobs.c.id, jobs.c.state).where(
        ~IS_OURS, or_(jobs.c.key != FOREIGN + jobs.c.state, jobs.c.attempt != 0)
    )
    for id_, state in connection.execute(touched):
        verdict.illegal.append(f"job {id_} of another app was touched: it is {state}")


def _check_ledger(connection: Connection, ledger: list[str], verdict: Verdict) -> None:
    if not ledger:
        return
    keys, gifts = defaultdict(set), set(connection.scalars(select(Gift.id)))
    for line in ledger:
        record, key, _, version = line.split()
        keys[record].add(key)
        if version == "old" and record in gifts:
            verdict.illegal.append(f"the old version ran a key it does not know: {record}")
    verdict.illegal += [f"{r} ran under {len(k)} keys" for r, k in keys.items() if len(k) > 1]
    for resource in (Errand, Gift):
        done = connection.scalars(select(resource.id).where(resource.state == State.COMPLETED))
        verdict.lost += [f"completed, never ran: {id_}" for id_ in done if id_ not in keys]


def count_jobs(connection: Connection) -> dict[str, int]:
    """Return how many jobs there are, and how their attempts ended."""
    counts = {"jobs": connection.scalar(select(func.count()).select_from(jobs)) or 0}
    by_outcome = select(attempts.c.outcome, func.count()).group_by(attempts.c.outcome)
    counts |= {f"attempts {outcome}": n for outcome, n in connection.execute(by_outcome)}
    by_state = select(jobs.c.state, func.count()).group_by(jobs.c.state)
    return counts | {f"jobs {JobState(state)}": n for state, n in connection.execute(by_state)}


def find_false_rescues(connection: Connection, killed) -> list[str]:
    """Return the attempts that were taken from a worker that nobody had killed."""
    crashed = select(attempts.c.job_id, attempts.c.node).where(attempts.c.outcome == "crashed")
    return [
        f"job {job_id} was taken from {node}, which lived"
        for job_id, node in connection.execute(crashed)
        if node not in killed
    ]


def reclaim_seconds(connection: Connection, app: StateJobs, killed, away=()) -> list[float]:
    """Return for each job of a killed node how long it took until another one claimed it.

    Those for which the database was away meanwhile are left out: nobody could claim them.

    Args:
        connection: To the database.
        app: The app that ran.
        killed: Node id → when its process was killed.
        away: From when to when the database was away.
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
            transitions.c.at >= attempts.c.finished_at,
        )
        .scalar_subquery()
    )
    rows = connection.execute(
        select(attempts.c.node, next_start)
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .where(attempts.c.outcome == "crashed")
    )
    claimed = [(killed[node], at) for node, at in rows if at and node in killed]
    return sorted(
        (at - since).total_seconds()
        for since, at in claimed
        if at > since  # else rescued before, from a pause
        and not any(gone < at and since < back for gone, back in away)
    )


def read_lines(file: Path) -> list[str]:
    """Return the lines of *file*; none when nobody wrote it."""
    return file.read_text().splitlines() if file.exists() else []
