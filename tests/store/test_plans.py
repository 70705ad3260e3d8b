"""What the database reads for every statement of ours, beside many rows and old statistics."""

import re
from datetime import timedelta
from importlib import import_module
from inspect import isfunction, signature, unwrap
from itertools import product
from pkgutil import iter_modules

import pytest
from sqlalchemy import Text, cast, insert, literal, select, text

from statejobs import (
    Cancel,
    Domain,
    JobState,
    Retention,
    Snooze,
    StateJobs,
    WorkerSettings,
    store,
)
from statejobs.store.candidates import candidates_among
from statejobs.store.claim import lock_queued, postpone
from statejobs.store.hold import lock_jobs, renew_leases
from statejobs.store.key_text import key_text
from statejobs.store.naming import ALONE
from statejobs.store.nodes import (
    beat_node,
    forget_silent_nodes,
    register_node,
    remove_node,
)
from statejobs.store.pages import Page, Picking, read_page, write_page
from statejobs.store.strangers import peek_queues
from statejobs.store.tables import attempts, jobs, schedules, ticks, transitions
from statejobs.values.suspects import Suspects
from statejobs.work.schedules.picking import columns_of_all
from tests.support import errands, meters, parcels
from tests.support.clock import NOON, ManualClock, manual_sources
from tests.support.errands import ask
from tests.support.meters import Meter
from tests.support.parcels import (
    LEASE,
    Letter,
    Message,
    Parcel,
    enqueue,
    fire,
    send,
)
from tests.support.plans import accesses, recording

ENDED = 20_000
AT_ONCE = 1_000  # what a batch of the prune takes
RESTING = 5_000
RUNNING = 2_000
FEW = 20
LONG_AFTER = NOON + timedelta(days=300)
PROCESSING = {
    "state": "processing",
    "lease_until": LONG_AFTER,
    "owner": "n",
    "token": "t",
}
RECORDS = {"parcels": Parcel, "letters": Letter, "messages": Message, "meters": Meter}
OURS = (
    "statejobs_jobs",
    "statejobs_transitions",
    "statejobs_attempts",
    "statejobs_ticks",
)

MAY_READ_ALL = (
    # (part of the statement, tables or indexes of which it may read all, why)
    (
        r"^(?!.*record_id =).*ORDER BY statejobs_jobs.id DESC",
        {
            "statejobs_jobs",
            "statejobs_jobs_pkey",
            *(index.name for index in jobs.indexes),
        },
        "a person lists the newest, and skips others",
    ),
    (
        r"WITH sj_picked AS",
        {*RECORDS},
        "a bulk move finds records by the condition of its caller",
    ),
    (
        r"AS sj_page",
        {*RECORDS, *(f"{table}_pkey" for table in RECORDS)},
        "a tick finds records by the condition of its trigger",
    ),
    (
        r"WITH sj_page AS",
        {*RECORDS, *(f"{table}_pkey" for table in RECORDS)},
        "as that",
    ),
    (
        r"count\(\*\)",
        {f"ix_statejobs_jobs_{name}" for name in ("claim", "keys", "due", "lease")},
        "each of these indexes holds just the jobs that are counted",
    ),
    (
        r"min\(statejobs_ticks.began_at\)",
        {"ix_statejobs_ticks_undone"},
        "it holds just the ticks that are not finished",
    ),
    (r"owner IS NULL", {"ix_statejobs_jobs_lease"}, "it holds just the jobs that run"),
    (r"min\(statejobs_jobs.run_at\)", {"ix_statejobs_jobs_due"}, "one row, the first"),
    (r"RECURSIVE firsts", {"ix_statejobs_jobs_claim"}, "one row, the first"),
)

SAMPLES = {
    "queues": [["default"]],
    "column": ["progress", "checkpoint"],
    "most_ended": [1],
    "resource": ["Parcel"],
    "record_id": ["1"],
    "keys": [["parcel.send"]],
    "ticks": [False, True],
    "suspects": [*Suspects],
    "waits": [False, True],
    "names": [ALONE],
    "edited": [frozenset({"priority", "queue"}), frozenset({"run_at"})],
    "after": [0],
    "until": [100],
    "limit": [10],
}
"""Arguments of the functions that make statements: each that makes another text."""

STATEMENTS = {"Executable", "Select[Any]", "Update"}
"""What a function is said to return that makes a statement."""
PARTS = {"_stage", "_complete_one"}
"""Functions that make a part of one all the same, or what is sent on SQLite alone."""

FINDERS = {
    "ix_statejobs_jobs_claim": r"queue =|count\(\*\)|RECURSIVE firsts",
    "ix_statejobs_jobs_keys": r"queue =|count\(\*\)",
    "ix_statejobs_jobs_due": r"min\(statejobs_jobs.run_at\)|statejobs_jobs.run_at <=|count\(\*\)",
    "ix_statejobs_jobs_lease": r"lease_until < .*(ORDER BY|owner =)|count\(\*\)",
    "ix_statejobs_jobs_ended": r"statejobs_jobs.finished_at [>=]|count\(\*\)|reason LIKE",
    **{f"ix_{table}_state": r"AS (sj_)?was|sj_page" for table in RECORDS},
}
"""Index that finds rows by their state → the statements that look for such rows."""


@pytest.fixture
def app(database_url):
    domain = Domain(
        "all",
        resources=list(RECORDS.values()),
        tasks=[errands.errand, errands.plain, errands.fetch],
    )
    opened = StateJobs(
        database_url,
        domains=[domain],
        settings=WorkerSettings(lease=LEASE, timeout_grace=timedelta(seconds=0.2)),
        retention=Retention(completed=timedelta(days=1), history=timedelta(days=1)),
        sources=manual_sources(ManualClock()),
    )
    opened.create_all()
    errands.Base.metadata.create_all(opened.engine)
    yield opened
    parcels.close_app(opened)
    parcels.reset_script()
    errands.reset()
    meters.reset_script()


@pytest.mark.timeout(240)
def test_no_statement_reads_rows_that_nobody_asked_for(app):
    crowd(app)
    with recording(*OURS, *RECORDS) as seen:
        do_everything(app)
    asked = {**dict.fromkeys(made(app.engine.dialect)), **seen}

    ours = [a for a in accesses(app.engine, asked) if a.table in {*OURS, *RECORDS}]

    scans = {str(a) for a in ours if not a.is_bounded and not may_read_all(a)}
    strays = {str(a) for a in ours if a.is_bounded and not may_find(a)}
    assert {a.table for a in ours} == {*OURS, *RECORDS}
    assert (sorted(scans), sorted(strays)) == ([], [])


def made(dialect):
    """The text of every statement about our tables that there is a function for, sent or not."""
    names = [
        f"{store.__name__}.{m.name}"
        for m in iter_modules(store.__path__)
        if not m.ispkg
    ]
    texts = [
        text
        for module in map(import_module, names)
        for name, make in [
            (name, unwrap(found)) for name, found in vars(module).items()
        ]
        if isfunction(make) and make.__module__ == module.__name__
        if make.__annotations__.get("return") in STATEMENTS or name == "enqueue_jobs"
        if is_whole(make) and name not in PARTS
        for text in texts_of(make, dialect)
    ]
    return [text for text in texts if any(table in text for table in OURS)]


def is_whole(make):
    """Return whether *make* makes a statement of ours alone: of no table or query that is given."""
    needed = {
        name
        for name, given in signature(make).parameters.items()
        if given.default is given.empty
    }
    return needed <= {"dialect", *SAMPLES}


def texts_of(make, dialect):
    known = {"dialect": [dialect.name], **SAMPLES}
    wanted = [
        name
        for name, given in signature(make).parameters.items()
        if name in known or given.default is given.empty
    ]
    for given in product(*(known[name] for name in wanted)):
        yield str(
            make(**dict(zip(wanted, given, strict=True))).compile(dialect=dialect)
        )


def may_read_all(access):
    read = access.index or access.table
    return any(
        re.search(part, flat(access)) and read in of for part, of, _ in MAY_READ_ALL
    )


def may_find(access):
    is_list = "ORDER BY statejobs_jobs.id DESC" in flat(access)
    return is_list or re.search(FINDERS.get(access.index, ""), flat(access))


def flat(access):
    return " ".join(access.statement.split())


def crowd(app):
    """Many ended jobs and resting records; statistics from when few ran; then many run."""
    with app.engine.begin() as connection:
        for table, kind in RECORDS.items():
            connection.execute(
                text(f"CREATE INDEX ix_{table}_state ON {table} (state)")
            )
            put_records(connection, kind, range(1_000, 1_000 + RESTING), resting(kind))
            put_records(connection, kind, range(40_000, 40_000 + FEW), waiting(kind))
        first, *others = range(100_000, 100_000 + 4 * FEW, FEW)
        put_jobs(
            connection,
            range(1_000, 1_000 + AT_ONCE),
            state="completed",
            finished_at=NOON,
        )
        for n in range(1_000 + AT_ONCE, 1_000 + ENDED, AT_ONCE):
            at = NOON + timedelta(seconds=n)
            put_jobs(
                connection, range(n, n + AT_ONCE), state="completed", finished_at=at
            )
        put_jobs(connection, range(first, first + FEW), **PROCESSING)
        for start, state in zip(others, ("queued", "scheduled", "failed"), strict=True):
            put_jobs(
                connection, range(start, start + FEW), state=state, run_at=LONG_AFTER
            )
        for n in range(10):
            put_ticks(connection, f"schedule.{n}", range(AT_ONCE))
        if connection.dialect.name == "postgresql":
            for table in (*OURS, *RECORDS):
                connection.execute(
                    text(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
                )
    with app.engine.connect() as connection:
        connection.execute(text("ANALYZE"))
        connection.commit()
    with app.engine.begin() as connection:
        put_jobs(connection, range(50_000, 50_000 + RUNNING), **PROCESSING)
        for kind in RECORDS.values():
            put_records(
                connection, kind, range(50_000, 50_000 + RUNNING), waiting(kind)
            )


def put_records(connection, kind, numbers, state):
    table = kind.__table__
    filled = {c.name: 0 for c in table.c if not c.nullable and not c.primary_key}
    known = {"state": state, "state_version": 3, "state_changed_at": NOON}
    put(connection, table, numbers, {**filled, **known}, lambda n: {"id": n})


def put_jobs(connection, numbers, **values):
    """Jobs with an attempt and a row of history each."""
    base = {
        "key": "parcel.send",
        "queue": "default",
        "priority": 9,
        "run_at": NOON,
        "args": "{}",
        "resource": "Parcel",
        "tags": "[]",
        "max_attempts": 3,
        "enqueued_at": NOON,
        "attempt": 1,
        "idempotency_key": "i",
    }
    put(
        connection,
        jobs,
        numbers,
        {**base, **values},
        lambda n: {
            "id": n,
            "record_id": cast(n, Text),
            "dedupe_key": literal("parcel.send:") + cast(n, Text),
        },
    )
    tried = {"attempt": 1, "outcome": "fail", "finished_at": NOON}
    put(connection, attempts, numbers, tried, lambda n: {"job_id": n})
    moved = {
        "resource": "Parcel",
        "name": "x",
        "target": "sent",
        "version": 1,
        "at": NOON,
    }
    put(
        connection,
        transitions,
        numbers,
        moved,
        lambda n: {"job_id": n, "record_id": cast(n, Text)},
    )


def put_ticks(connection, key, numbers):
    """A schedule that has ticked so often; the ticks of all are one after the other."""
    connection.execute(insert(schedules).values(key=key, spec=key, next_at=LONG_AFTER))
    connection.execute(
        insert(ticks),
        [
            {"key": key, "at": at, "began_at": at, "done_at": at}
            for at in (NOON + timedelta(minutes=n) for n in numbers)
        ],
    )


def put(connection, table, numbers, same, varied):
    """Insert a row for each number with one statement."""
    n = select(literal(numbers.start).label("n")).cte("n", recursive=True)
    n = n.union_all(select(n.c.n + 1).where(n.c.n < numbers.stop - 1))
    columns = {
        **{k: literal(v, table.c[k].type) for k, v in same.items()},
        **varied(n.c.n),
    }
    connection.execute(
        insert(table).from_select(list(columns), select(*columns.values()))
    )


def resting(kind):
    """A state in which nothing waits."""
    return kind.__statejobs__.spec.final[0]


def waiting(kind):
    """A state from which jobs start."""
    return kind.__statejobs__.spec.initial


def do_everything(app):
    """Whatever sends a statement: by people, by workers, in each form of action."""
    move_records(app)
    move_in_bulk(app)
    pick_records(app)
    run_each_form(app)
    end_in_every_way(app)
    lose_a_worker(app)
    keep_busy_and_stale_apart(app)
    begin_other_lives(app)
    hold(app)
    operate(app)
    look(app)
    prune(app)


def move_records(app):
    key = send(app, 3)[0]
    fire(app, Parcel, key, "drop")  # a job waits
    with app.session() as session:
        session.add_all([Parcel(), Parcel()])
        session.commit()
        for parcel in session.scalars(select(Parcel).where(Parcel.id < 4)):
            parcel.note = "two at once"
        session.commit()
    with app.session() as session:
        Parcel.send_off.options(delay=timedelta(hours=1)).enqueue_many(
            session, [session.get_one(Parcel, key + 1)]
        )
        session.commit()
    (claim, *rest) = app.runner().claim("default", limit=10)
    for claimed in (claim, *rest):
        fire(app, Parcel, int(claimed.job.record_id), "drop")  # a job runs
        app.runner().run(claimed)


def move_in_bulk(app):
    send(app, 3)
    with app.session() as session:
        Parcel.drop.bulk(session, where=Parcel.id < 1_000)
        session.commit()
        session.add_all([Parcel(), Parcel()])
        session.commit()


def pick_records(app):
    model = Parcel.__statejobs__
    bound = model.triggers["parcel.send"]
    with app.engine.begin() as connection:
        put_records(connection, Parcel, range(90_000, 90_001), bound.sources[0])
    picking = Picking(
        candidates=candidates_among(
            Parcel, model.records, bound.sources, matches=Parcel.id > 0, order_by=()
        ),
        record_id=key_text(model.records.keys, app.engine.dialect, where="a test"),
        prefix=bound.prefix,
        former_prefixes=("parcel.post:",),
        is_unique=True,
    )
    page = Page(after=(2,), size=1_000, now=NOON)
    same = columns_of_all(model, bound, now=NOON, tick_at=NOON, salt="a")
    with app.store.transaction() as connection:
        written = write_page(connection, picking, page, same, salt="a", due=[NOON])
        read_page(connection, picking, page)
        assert written.enqueued
        connection.rollback()


def run_each_form(app):
    send(app, 3)
    enqueue(app, Letter, "press", 3)
    enqueue(app, Letter, "put_on_scale", 2)
    enqueue(app, Message, "get", 2)
    enqueue(app, Meter, "read_all", 5)
    enqueue(app, Meter, "look_at", 2)
    ask(app)
    ask(app)
    ask(app, errands.plain, 1)
    ask(app, errands.fetch, "x")
    parcels.script.seal = lambda letter, ctx: setattr(letter, "grams", 7)
    app.drain()
    send(app)
    enqueue(app, Letter, "press")
    app.drain()  # one alone
    parcels.script.send = lambda parcel, ctx: ctx.session.add(
        parcels.Item(parcel=parcel, name="x")
    )
    send(app, 2)
    app.drain()  # with a flush
    parcels.reset_script()


def end_in_every_way(app):
    def fail(*_args):
        raise RuntimeError("no")

    def later(*_args):
        raise Snooze(timedelta(seconds=1))

    def stop(*_args):
        raise Cancel("enough")

    def note(_parcel, ctx):
        ctx.checkpoint["page"] = 1
        ctx.progress(1, 2)

    for end in (fail, later, stop, note):
        parcels.script.send = parcels.script.seal = end
        errands.script.errand = lambda ctx, day, text, end=end: end(None, ctx)
        meters.script.read = lambda read, ctx, end=end: (
            end(read, ctx) if end is not note else None
        )
        send(app, 2)
        enqueue(app, Letter, "press", 2)
        enqueue(app, Meter, "read_all", 2)
        ask(app)
        for _ in range(4):
            app.drain()
            app.sources.clock.advance(seconds=30)
    parcels.reset_script()
    errands.reset()
    meters.reset_script()


def lose_a_worker(app):
    send(app, 2)
    enqueue(app, Letter, "press")
    ask(app)
    app.runner().claim("default", limit=10)
    app.sources.clock.advance(LEASE * 2)
    app.runner().rescue()
    app.drain()
    (key,) = send(app)
    app.runner().claim("default", limit=10)
    take_its_place(app, key)
    for _ in range(3):
        app.sources.clock.advance(minutes=10)
        app.runner().rescue()
    assert parcels.job_of(app, Parcel, key).state is JobState.DISCARDED
    with app.engine.begin() as connection:
        connection.execute(text("DROP INDEX one_left"))


def take_its_place(app, key):
    """Let another parcel be where this one would have to go back to."""
    left = "state IN ('packed', 'lost')"
    index = f"CREATE UNIQUE INDEX one_left ON parcels (note) WHERE {left}"
    with app.engine.begin() as connection:
        connection.execute(text(f"UPDATE parcels SET note = 'first' WHERE id = {key}"))
        connection.execute(text(index))
    with app.session() as session:
        session.add(Parcel(note="first"))
        session.commit()


def keep_busy_and_stale_apart(app):
    key, _ = send(app, 2)
    with app.engine.begin() as connection:
        connection.execute(text(f"UPDATE parcels SET state = 'sent' WHERE id = {key}"))
    app.runner().claim("default", limit=1)
    send(app)
    if app.engine.dialect.name == "postgresql":
        with app.engine.begin() as connection:
            connection.execute(text("SELECT 1 FROM parcels WHERE id < 1000 FOR UPDATE"))
            app.runner().claim("default", limit=9)
    app.sources.clock.advance(seconds=30)
    app.drain()


def begin_other_lives(app):
    reused, deleted, running = send(app, 3)
    with app.engine.begin() as connection:
        connection.execute(text(f"DELETE FROM parcels WHERE id = {reused}"))
    with app.session() as session:
        session.add(Parcel(id=reused))
        session.delete(session.get_one(Parcel, deleted))
        session.commit()
    claims = app.runner().claim("default", limit=1)
    with app.session() as session:
        session.delete(session.get_one(Parcel, running))
        session.commit()
    for claim in claims:
        app.runner().run(claim)


def hold(app):
    send(app, 2)
    peek_queues(app.store, ["default"], ["parcel.send"])
    runner = app.runner()
    for claim in runner.claim("default", limit=2):
        renew_leases(app.store, [claim.job.id], node=runner.node_id, until=NOON)
        with app.session() as session:
            parcel = session.get_one(Parcel, int(claim.job.record_id))
            Parcel.send_off.enqueue(session, parcel)
            session.commit()
        app.cancel_job(claim.job.id)
        runner.run(claim)
    now = app.sources.clock.now()
    with app.store.transaction() as connection:
        for suspects in Suspects:
            lock_queued(
                connection, "default", ["x"], limit=1, suspects=suspects, sturdy=["x"]
            )
        lock_jobs(connection, [1, 2])
        postpone(connection, [1, 2], now)
        connection.rollback()
    register_node(
        app.store,
        {
            "id": "n",
            "host": "h",
            "pid": 1,
            "queues": "{}",
            "version": "1",
            "started_at": now,
            "beat_at": now,
        },
    )
    beat_node(app.store, "n", now)
    forget_silent_nodes(app.store, now)
    remove_node(app.store, "n")


def operate(app):
    keys = send(app, 2)
    (job,) = app.queries.jobs(resource="Parcel", record_id=str(keys[0]))
    app.retry_job(job.id)
    app.cancel_job(job.id)
    app.retry_job(job.id)
    app.drain()


def look(app):
    queries = app.queries
    (job, *_) = queries.jobs(limit=1)
    queries.jobs(states=[JobState.QUEUED])
    queries.jobs(states=[JobState.FAILED, JobState.PROCESSING], queue="default")
    queries.jobs(key="parcel.send")
    queries.jobs(resource="Parcel", record_id="1")
    queries.job(job.id)
    queries.attempts(job.id)
    queries.transitions("Parcel", "1")
    queries.counts()
    queries.oldest_queued()
    queries.nodes()


def prune(app):
    app.prune(dry_run=True, older_than=timedelta(days=400))
    app.sources.clock.advance(days=40)
    app.prune()
