"""A database with rows of every kind, at a fixed time, for what the command line prints of it.

Rows are written past statejobs, so that ids, times and words are the same each time.
"""

import json
from datetime import timedelta
from functools import lru_cache
from itertools import pairwise

from sqlalchemy import insert, text

from statejobs import Domain, StateJobs, WorkerSettings
from statejobs.store.tables import attempts, jobs, nodes, transitions
from statejobs.values.job import JobOutcome, JobState
from statejobs.values.lifecycle import STUCK
from statejobs.values.waiting import OTHER_CODE
from tests.support.clock import NOON, ManualClock, manual_sources
from tests.support.leaflets import Leaflet, LeafletState, Poster
from tests.support.worker_app import Crate, Parcel, S, Task

LONG = "the gateway at https://ada:pa55@pay.example said that it is down for maintenance until noon"
TRACEBACK = (
    "Traceback (most recent call last):\n"
    '  File "/srv/shop/tasks.py", line 7, in do_it\n'
    '    charge(password="hunter2")\n'
    f"RuntimeError: {LONG}\n"
)
WORKER, SILENT, GONE = ("a1b2c3d4" * 4, "beef" * 8, "dead" * 8)


@lru_cache(maxsize=1)
def make_app(database):
    """The app, at noon; the same one for each command, whose statements it has compiled already."""
    return StateJobs(
        database,
        domains=[
            Domain("work", resources=[Task, Parcel, Crate]),
            Domain("print", resources=[Leaflet, Poster]),
        ],
        queues={"work": 4, "slow": 2, "default": 10},
        settings=WorkerSettings(lease=timedelta(seconds=30)),
        redact=["iban"],
        sources=manual_sources(ManualClock()),
    )


def fill(database):
    """Make the tables, and put the rows into them; return the app."""
    make_app.cache_clear()  # an earlier test may have had a database of this name
    app = make_app(database)
    app.create_all()
    with app.engine.begin() as connection:
        for table, rows in (
            *_records(),
            (jobs, [*_of_tasks(), *_of_others(), *_strange()]),
            (attempts, _attempts()),
            (transitions, _history()),
            (nodes, _nodes()),
        ):
            for row in rows:
                connection.execute(insert(table).values(row))
        _spoil(connection)
    return app


def ago(**units):
    """A time before noon."""
    return NOON - timedelta(**units)


def _records():
    yield (
        Task.__table__,
        [
            _task(1, S.COMPLETED, version=4),
            _task(2, S.QUEUED, does="fail"),
            _task(3, S.FAILED, version=5, does="fail"),
            _task(4, S.DRAFT, version=1, note="locked"),
            _task(5, S.QUEUED),
            _task(6, S.QUEUED),
            _task(7, S.PROCESSING),
            _task(8, S.QUEUED),
            _task(9, S.QUEUED),
            _task(10, S.FAILED, note="locked"),
            _task(11, S.CANCELLED),
            _task(12, S.PROCESSING),
        ],
    )
    yield (
        Parcel.__table__,
        [
            _parcel("box 7", S.PROCESSING),
            _parcel("box 8", S.PROCESSING),
            _parcel("Kiste Ä\x1b[31m", S.QUEUED),
        ],
    )
    yield (
        Leaflet.__table__,
        [_sheet(1, LeafletState.APPROVED), _sheet(2, LeafletState.DRAFT)],
    )
    yield (
        Poster.__table__,
        [_sheet(1, LeafletState.APPROVED), _sheet(2, LeafletState.JAMMED)],
    )


def _task(number, state, *, version=2, does="nothing", note=None):
    return {"id": number, "does": does, "note": note, **_state(state, version)}


def _parcel(name, state):
    return {"id": name, "until": "/nowhere", **_state(state, 3)}


def _sheet(number, state):
    return {"id": number, "count": 0, **_state(state, 2)}


def _state(state, version):
    return {
        "state": state,
        "state_version": version,
        "state_changed_at": ago(minutes=version),
    }


def _of_tasks():
    perform = {
        "key": "task.perform",
        "queue": "work",
        "resource": "Task",
        "max_attempts": 2,
    }
    yield _job(
        **perform,
        record_id="1",
        state=JobState.COMPLETED,
        outcome=JobOutcome.COMPLETED,
        attempt=2,
        actor="user:7",
        tenant="acme",
        args=json.dumps({"amount": 5, "to": "Ada", "card_token": "tok_123"}),
        tags='["a", "b"]',
        started_at=ago(minutes=4),
        finished_at=ago(minutes=4),
    )
    yield _job(
        **perform,
        record_id="2",
        state=JobState.FAILED,
        attempt=1,
        reason="RuntimeError",
        run_at=NOON + timedelta(seconds=20),
        started_at=ago(seconds=9),
        finished_at=None,
    )
    yield _job(
        **perform,
        record_id="3",
        state=JobState.DISCARDED,
        outcome=JobOutcome.FAILED,
        attempt=2,
        crashes=1,
        reason="failed: RuntimeError",
        started_at=ago(hours=5),
        finished_at=ago(hours=5),
        args=json.dumps({"text": "x" * 90, "iban": "DE02", "nested": {"b": [1, None]}}),
    )
    yield _job(
        **perform,
        record_id="5",
        state=JobState.QUEUED,
        priority=2,
        run_at=ago(minutes=7),
    )
    yield _job(
        **perform,
        record_id="6",
        state=JobState.CANCELLED,
        outcome=JobOutcome.STALE,
        reason="stale: It is locked.",
        finished_at=ago(days=3),
    )
    yield _job(
        **perform,
        record_id="7",
        state=JobState.DISCARDED,
        outcome=JobOutcome.CRASHED,
        record_source="queued",
        attempt=2,
        reason=f"{STUCK}its record cannot be moved: not today",
        finished_at=ago(minutes=1),
    )
    yield _job(
        **perform,
        record_id="8",
        state=JobState.SCHEDULED,
        snoozes=3,
        run_at=NOON + timedelta(seconds=45),
        reason=f"{OTHER_CODE}the column note is missing in the table tasks of this database",
    )
    yield _job(
        **{**perform, "queue": "wrok"},
        record_id="9",
        state=JobState.QUEUED,
        run_at=ago(minutes=1),
    )
    yield _job(
        **perform,
        record_id="10",
        state=JobState.DISCARDED,
        outcome=JobOutcome.CRASHED,
        attempt=2,
        finished_at=ago(hours=1),
        reason="crashed: its worker died twice while it ran",
        crashes=2,
    )
    yield _job(
        **perform,
        record_id="12",
        state=JobState.PROCESSING,
        attempt=1,
        owner=None,
        reason="its record cannot be moved: a trigger keeps it",
        lease_until=ago(seconds=2),
        started_at=ago(minutes=2),
    )


def _of_others():
    ship = {
        "key": "parcel.ship",
        "queue": "slow",
        "resource": "Parcel",
        "max_attempts": 3,
    }
    runs = {"state": JobState.PROCESSING, "attempt": 2, "owner": WORKER, "token": "t"}
    yield _job(
        **ship,
        **runs,
        record_id='"box 7"',
        progress='{"done": 3, "total": 9}',
        run_again=True,
        lease_until=NOON + timedelta(seconds=25),
        started_at=ago(seconds=75),
        reason="ValueError",
    )
    yield _job(
        **ship,
        **runs,
        record_id='"box 8"',
        progress="[1]",
        cancel_requested=True,
        reason="cancelled by a person",
        lease_until=NOON,
        started_at=ago(seconds=12),
    )
    yield _job(
        **ship,
        record_id=json.dumps("Kiste Ä\x1b[31m"),
        state=JobState.QUEUED,
        actor="eve\x1b[2J",
    )
    leaflet = {
        "queue": "default",
        "resource": "Leaflet",
        "record_id": "1",
        "max_attempts": 2,
    }
    yield _job(
        **leaflet,
        key="leaflet.render",
        state=JobState.FAILED,
        attempt=1,
        reason="the password=hunter2 was refused",
        run_at=NOON + timedelta(minutes=5),
    )
    yield _job(
        **{**leaflet, "resource": "Poster"},
        key="poster.bend",
        state=JobState.COMPLETED,
        outcome=JobOutcome.COMPLETED,
        attempt=1,
        finished_at=ago(days=400),
    )


def _strange():
    """Jobs that nobody can run, or that cannot be read."""
    lone = {"queue": "default", "max_attempts": 5}
    yield _job(**lone, key="report.removed", state=JobState.SCHEDULED, run_at=NOON)
    yield _job(**lone, key="report.daily", state="paused", reason="by a newer version")
    yield _job(
        **lone,
        key="report.daily",
        args="x",
        progress="{",
        tags="",
        state=JobState.QUEUED,
    )
    yield _job(
        **lone, key="report.late", state=JobState.FAILED, reason="TimeoutError: 9 s"
    )
    yield _job(
        **lone,
        key="report.deep",
        args="[" * 5_000,
        state=JobState.CANCELLED,
        outcome=JobOutcome.CANCELLED,
    )


def _spoil(connection):
    """Write times that cannot be read, and take a table away."""
    wrong = "soon" if connection.dialect.name == "sqlite" else "infinity"
    late = "SELECT id FROM statejobs_jobs WHERE key = 'report.late'"
    for statement in (
        f"UPDATE statejobs_jobs SET run_at = '{wrong}' WHERE key = 'report.late'",
        f"UPDATE statejobs_attempts SET finished_at = '{wrong}' WHERE job_id IN ({late})",
        f"UPDATE statejobs_transitions SET at = '{wrong}' WHERE record_id = '11'",
        "DROP TABLE crates",
    ):
        connection.execute(text(statement))


def _job(**values):
    count = len(values["key"]) + len(values.get("record_id") or "")
    key, record_id = values["key"], values.get("record_id")
    return {
        "priority": 5,
        "run_at": ago(minutes=10),
        "args": "{}",
        "tags": "[]",
        "idempotency_key": f"{count:032x}",
        "enqueued_at": ago(minutes=10, seconds=count),
        "dedupe_key": f"{key}:{record_id}" if record_id else None,
        **values,
    }


def _attempts():
    """Of the jobs 1, 2, 3, 9 and of the one that is late."""
    failed = {"outcome": "fail", "error_type": "RuntimeError", "node": WORKER}
    for job_id, attempt, when in (
        (1, 1, 290),
        (2, 1, 9),
        (3, 1, 18_100),
        (3, 2, 18_000),
    ):
        yield {
            **failed,
            "job_id": job_id,
            "attempt": attempt,
            "message": LONG if attempt == 1 else "",
            "traceback": TRACEBACK,
            "started_at": ago(seconds=when + 2),
            "finished_at": ago(seconds=when),
        }
    yield {
        "job_id": 9,
        "attempt": 1,
        "outcome": "crash",
        "error_type": None,
        "message": None,
        "traceback": None,
        "node": GONE,
        "started_at": None,
        "finished_at": ago(hours=2),
    }
    yield {
        **failed,
        "job_id": 19,
        "attempt": 1,
        "message": "token=abc\x1b]0;",
        "traceback": None,
        "started_at": None,
        "finished_at": NOON,
    }
    yield {
        **failed,
        "job_id": 11,
        "attempt": 1,
        "message": "first\nsecond line",
        "traceback": None,
        "started_at": ago(seconds=200),
        "finished_at": ago(seconds=199),
    }


def _history():
    """Of the records of these jobs, oldest first."""
    for number, states in (
        ("1", [None, "draft", "queued", "processing", "completed"]),
        ("3", [None, "draft", "queued", "processing", "failed"]),
        ("11", ["draft", "cancelled"]),
    ):
        for version, (source, target) in enumerate(pairwise(states)):
            since = 300 - version * 10 - int(number)
            yield _step("Task", number, source, target, version, seconds=since)
    yield _step("Parcel", '"box 7"', None, "draft", 0, seconds=0, days=400)
    yield {
        **_step("Leaflet", "1", "draft", "approved", 1, seconds=60),
        "args": '{"password": "x"}',
        "reason": "token=abc",
        "actor": "ada\x1b[1m",
        "tenant": "acme",
    }
    yield {**_step("Leaflet", "1", "approved", "approved", 2, seconds=50), "args": "}"}


def _step(resource, record_id, source, target, version, **when):
    by_job = target in {"processing", "completed", "failed"}
    return {
        "resource": resource,
        "record_id": record_id,
        "name": "create" if source is None else f"to_{target}",
        "source": source,
        "target": target,
        "version": version,
        "actor": None if by_job else "user:7",
        "job_id": 1 if by_job else None,
        "attempt": version if by_job else None,
        "duration": {"completed": 0.25, "failed": 75.0}.get(target),
        "reason": "RuntimeError" if target == "failed" else None,
        "args": '{"coupon": "X"}' if version == 1 else None,
        "at": ago(**when),
    }


def _nodes():
    shared = {
        "host": "shop-1",
        "pid": 4711,
        "version": "0.1.0",
        "started_at": ago(hours=3),
    }
    held = [
        {
            "key": "task.perform",
            "reason": "no such column: tasks.note",
            "retry_seconds": 12.5,
        },
        {
            "key": "crate.lift",
            "reason": "no such table: crates",
            "retry_seconds": 600.0,
        },
    ]
    yield {
        **shared,
        "id": WORKER,
        "queues": '{"work": 4, "slow": 2}',
        "beat_at": ago(seconds=4),
        "clock_offset": 61.5,
        "held": json.dumps(held),
    }
    yield {
        **shared,
        "id": SILENT,
        "queues": "broken",
        "beat_at": ago(seconds=90),
        "clock_offset": -7.0,
        "host": "a-machine-with-a-long-name.example",
        "started_at": ago(hours=2),
    }
    yield {
        **shared,
        "id": GONE,
        "queues": "{}",
        "beat_at": ago(minutes=11),
        "clock_offset": None,
    }
