"""What is in the tables after an attempt has ended, in each way and in each form of an action.

A job may end alone or together with others, in one statement or through its session, sync or
async: whoever reads record, job, attempts and history cannot tell which it was.
"""

from datetime import timedelta

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.exc import OperationalError

from statejobs import Cancel, Snooze, Stale, WorkerSettings
from statejobs.store.tables import attempts, jobs, transitions
from tests.support.clock import ManualClock, manual_sources
from tests.support.forms import FORMS, LOOSE, office, script, write_on_board
from tests.support.parcels import LEASE, enqueue, fire


class ServerError(Exception):
    """What a driver raises when the server broke a deadlock."""

    sqlstate = "40P01"


def write_nothing(_records, _session):
    """The record only moves."""


def write_columns(records, _session):
    """Columns of the record are written with its move."""
    for record in records:
        record.n = 1


def write_through_session(_records, session):
    """What else is written needs a unit of work."""
    write_on_board(session)


WAYS = [
    (write_nothing, 1),
    (write_columns, 3),
    (write_through_session, 1),
    (write_through_session, 3),
]
"""What the body writes, and how many end at a time."""


class Case:
    """A few records of one kind, each with a job, whose attempts end as a story tells."""

    def __init__(self, app, clock, kind, write, number):
        self.app, self.clock, self.kind, self.write = app, clock, kind, write
        self.keys, self.began = enqueue(app, kind, "act", number), clock.now()

    def step(self, *, raises=None, meets=None):
        """Run each job once; its body *meets* something, writes, and then *raises*."""

        def act(records, session, _ctx):
            for record in records:
                if meets is not None and record.id not in met:
                    met.add(record.id)
                    meets(record.id)
            self.write(records, session)
            if raises is not None:
                raise raises

        met = set()
        script.body = act
        self.app.step(len(self.keys))

    def claim(self):
        """Claim the jobs, and run none."""
        runner = self.app.runner()
        return runner, runner.claim("default", limit=len(self.keys))

    def make_due(self):
        """Let the jobs that wait be due now."""
        for key in self.keys:
            self.touch_job(key, state="queued", run_at=self.began)

    def touch_job(self, key, **values):
        """Change the row of a job past everybody."""
        with self.app.engine.begin() as connection:
            connection.execute(
                update(jobs).where(jobs.c.id == self.job(key).id).values(values)
            )

    def forget(self):
        """Delete every job with its attempts, so that the next case meets none of them."""
        with self.app.engine.begin() as connection:
            connection.execute(delete(attempts))
            connection.execute(delete(jobs))

    def job(self, key):
        (job,) = self.app.queries.jobs(resource=self.kind.__name__, record_id=str(key))
        return job

    def rows(self, key):
        """Record, job, attempts and history of one record, a line each."""
        job_id = self.job(key).id
        with self.app.session() as session:
            record = session.get_one(self.kind, key)
            job = session.execute(select(jobs).where(jobs.c.id == job_id)).one()
            tried = session.execute(
                select(attempts)
                .where(attempts.c.job_id == job_id)
                .order_by(attempts.c.id)
            ).all()
            past = session.execute(
                select(transitions)
                .where(
                    transitions.c.record_id == str(key),
                    transitions.c.source.is_not(None),
                )
                .order_by(transitions.c.id)
            ).all()
        return [
            f"record {record.state.value} v{record.state_version}{self._written(record)}",
            self._line_of_job(job),
            *(f"attempt {a.attempt} {a.outcome} {a.error_type}" for a in tried),
            *(self._line_of_step(row, job_id) for row in past),
        ]

    def _written(self, record):
        assert record.n == 0 or self.write is write_columns
        return ", written" if record.n else ""

    def _line_of_job(self, job):
        after = f"{(job.run_at - self.began).total_seconds():g}s"
        if job.state == "failed":
            after = "backoff"  # has chance in it
        held = [
            n for n in ("owner", "token", "lease_until") if getattr(job, n) is not None
        ]
        flags = [n for n in ("run_again", "cancel_requested") if getattr(job, n)]
        ended = f" {job.outcome}" if job.finished_at or job.outcome else ""
        counts = f"{job.attempt}/{job.crashes}/{job.returned}/{job.snoozes}"
        return (
            f"job {job.state}{ended} {counts} +{after} {[*held, *flags]} {job.reason}"
        )

    def _line_of_step(self, row, job_id):
        of_job = "job" if row.job_id == job_id else "people"
        reason = f": {row.reason}" if row.reason else ""
        timed = " timed" if row.duration is not None else ""
        name = row.name.removeprefix("act.")
        return (
            f"{name} {row.source} → {row.target} v{row.version} {of_job} "
            f"{row.attempt}{timed}{reason}"
        )


STORIES = {}
"""What happens to an attempt, by the rows that it leaves: record, job, attempts, history."""
ALONE, OF_OTHERS = [], []
"""What happens to any attempt; what others do while a body runs that has locked nothing yet."""


def story(rows, *, of_others=False):
    """Say which *rows* are left, in every form of an action and however it writes."""

    def keep(tell):
        STORIES[tell] = [line.strip() for line in rows.strip().splitlines()]
        (OF_OTHERS if of_others else ALONE).append(tell)
        return tell

    return keep


@story("""
    record done v2, written
    job completed completed 1/0/0/0 +0s [] None
    start new → run v1 job 1
    complete run → done v2 job 1 timed
""")
def complete(case):
    case.step()


@story("""
    record new v2
    job failed 1/0/0/0 +backoff [] ValueError: no
    attempt 1 failed ValueError
    start new → run v1 job 1
    return run → new v2 job 1 timed: ValueError: no
""")
def fail(case):
    case.step(raises=ValueError("no"))


@story("""
    record lost v4
    job discarded failed 2/0/0/0 +0s [] failed: ValueError: no
    attempt 1 failed ValueError
    attempt 2 failed ValueError
    start new → run v1 job 1
    return run → new v2 job 1 timed: ValueError: no
    start new → run v3 job 2
    discard run → lost v4 job 2 timed: failed: ValueError: no
""")
def fail_for_good(case):
    fail(case)
    case.make_due()
    fail(case)


@story("""
    record new v2
    job scheduled 0/0/0/1 +300s [] not yet
    start new → run v1 job 1
    return run → new v2 job 1 timed: not yet
""")
def snooze(case):
    case.step(raises=Snooze(minutes=5, reason="not yet"))


@story("""
    record lost v2
    job cancelled cancelled 1/0/0/0 +0s [] never
    attempt 1 cancelled None
    start new → run v1 job 1
    discard run → lost v2 job 1 timed: never
""")
def cancel(case):
    case.step(raises=Cancel("never"))


@story("""
    record new v2
    job cancelled stale 0/0/0/0 +0s [] stale: sold out
    start new → run v1 job 1
    return run → new v2 job 1 timed: stale: sold out
""")
def be_stale(case):
    case.step(raises=Stale("sold out"))


@story("""
    record lost v6
    job discarded failed 0/0/0/2 +0s [] snoozed 2 times
    start new → run v1 job 1
    return run → new v2 job 1 timed: not yet
    start new → run v3 job 1
    return run → new v4 job 1 timed: not yet
    start new → run v5 job 1
    discard run → lost v6 job 1 timed: snoozed 2 times
""")
def snooze_too_often(case):
    snooze(case)
    for _ in range(2):
        case.make_due()
        snooze(case)


@story("""
    record new v2
    job scheduled 0/0/1/0 +0.1s [] given back: (tests.runner.test_endings.ServerError) a deadlock
    start new → run v1 job 1
    return run → new v2 job 1 timed: given back: (tests.runner.test_endings.ServerError) a deadlock
""")
def give_back(case):
    case.step(raises=OperationalError("SELECT 1", {}, ServerError("a deadlock")))


@story("""
    record stopped v1
    job cancelled left 0/0/0/0 +0s [] left by stop
    stop new → stopped v1 people None timed
""")
def be_left(case):
    for key in case.keys:
        fire(case.app, case.kind, key, "stop")
    case.step()


@story("""
    record new v2
    job queued 1/1/0/0 +0s [] crashed: the worker's lease ran out
    attempt 1 crashed None
    start new → run v1 job 1
    return run → new v2 job 1: crashed: the worker's lease ran out
""")
def crash(case):
    case.claim()
    case.clock.advance(LEASE * 2)
    case.app.runner().rescue()


@story("""
    record lost v4
    job discarded crashed 2/2/0/0 +0s [] crashed: the worker's lease ran out
    attempt 1 crashed None
    attempt 2 crashed None
    start new → run v1 job 1
    return run → new v2 job 1: crashed: the worker's lease ran out
    start new → run v3 job 2
    discard run → lost v4 job 2: crashed: the worker's lease ran out
""")
def crash_for_good(case):
    crash(case)
    for _ in case.keys:  # suspects are claimed one by one
        crash(case)


@story("""
    record new v2
    job queued 0/0/0/0 +0s [] given back: it had waited here for its turn
    start new → run v1 job 1
    return run → new v2 job 1: given back: it had waited here for its turn
""")
def be_released(case):
    runner, claims = case.claim()
    for claim in claims:
        runner.finisher.release(claim)


@story(
    """
    record lost v2
    job cancelled cancelled 1/0/0/0 +0s [] ordered twice
    attempt 1 cancelled None
    start new → run v1 job 1
    discard run → lost v2 job 1 timed: ordered twice
    """,
    of_others=True,
)
def be_cancelled_by_a_person(case):
    case.step(
        meets=lambda key: case.app.cancel_job(case.job(key).id, reason="ordered twice"),
        raises=ValueError("stopped"),
    )


@story(
    """
    record done v2, written
    job completed completed 1/0/0/0 +0s [] None
    start new → run v1 job 1
    complete run → done v2 job 1 timed
    """,
    of_others=True,
)
def complete_though_cancelled(case):
    case.step(
        meets=lambda key: case.app.cancel_job(case.job(key).id, reason="ordered twice")
    )


@story(
    """
    record stopped v2
    job cancelled superseded 1/0/0/0 +0s [] superseded: the record was moved to 'stopped'
    start new → run v1 job 1
    stop run → stopped v2 people None timed
    """,
    of_others=True,
)
def be_superseded(case):
    case.step(meets=lambda key: fire(case.app, case.kind, key, "stop"))


@story(
    """
    record stopped v2
    job cancelled superseded 1/0/0/0 +0s [] superseded: the record was moved to 'stopped'
    start new → run v1 job 1
    stop run → stopped v2 people None timed
    """,
    of_others=True,
)
def fail_superseded(case):
    case.step(
        meets=lambda key: fire(case.app, case.kind, key, "stop"),
        raises=ValueError("no"),
    )


@story(
    """
    record run v1
    job processing 1/0/0/0 +0s ['owner', 'token', 'lease_until'] None
    start new → run v1 job 1
    """,
    of_others=True,
)
def come_late(case):
    case.step(meets=lambda key: case.touch_job(key, token="another's"))


@pytest.fixture
def clock():
    """The clock of the app."""
    return ManualClock()


@pytest.fixture
def app(database_url, clock):
    """An app for every form of an action."""
    settings = WorkerSettings(lease=LEASE, timeout_grace=timedelta(seconds=0.2))
    with office(
        database_url, sources=manual_sources(clock), settings=settings
    ) as opened:
        yield opened


@pytest.mark.parametrize(
    ("tell", "kind"),
    [(tell, kind) for tell in ALONE for kind in FORMS]
    + [(tell, kind) for tell in OF_OTHERS for kind in LOOSE],
)
def test_each_way_leaves_the_same_rows(app, clock, tell, kind):
    for write, number in WAYS:
        case = Case(app, clock, kind, write, number)

        tell(case)

        written = ", written" if write is write_columns else ""
        wanted = [line.replace(", written", written) for line in STORIES[tell]]
        assert [case.rows(key) for key in case.keys] == [wanted] * number
        case.forget()
