"""The graph of a job against what statements do to jobs."""

import re
from datetime import timedelta

import pytest
from sqlalchemy import text

from statejobs.store.staging import find_due, stage_listed
from statejobs.values.job import JobOutcome, JobState
from statejobs.values.lifecycle import JOB_MACHINE
from tests.store import test_plans as plans
from tests.support import parcels
from tests.support.ends import ended_as_it_says
from tests.support.errands import ask
from tests.support.hostile import allow_updates, execute, is_postgres, refuse_updates
from tests.support.parcels import Letter, Parcel, enqueue, fire, job_of, send
from tests.support.plans import recording

app = plans.app
"""Every form of action, on each database."""

WATCHED = {
    "sqlite": (
        "CREATE TRIGGER note_move AFTER UPDATE OF state ON statejobs_jobs"
        " WHEN OLD.state <> NEW.state"
        " BEGIN INSERT INTO job_moves VALUES (OLD.state, NEW.state, NEW.outcome); END",
    ),
    "postgresql": (
        "CREATE FUNCTION note_move() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO job_moves VALUES (OLD.state, NEW.state, NEW.outcome);"
        " RETURN NULL; END'",
        "CREATE TRIGGER note_move AFTER UPDATE OF state ON statejobs_jobs FOR EACH ROW"
        " WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION note_move()",
    ),
}
"""What notes every change of a job's state, and how it then says that it ended."""

EDGES = {(source, edge.target) for edge in JOB_MACHINE.edges for source in edge.sources}


@pytest.mark.timeout(240)
def test_jobs_move_along_the_edges_of_their_machine_and_along_each_of_them(app):
    watch(app)

    with recording("statejobs_jobs") as seen:
        plans.do_everything(app)
        enqueue_for_later(app)
        refuse_claims(app)
        take_a_place(app)
        decide_by_hand(app)
        stage_by_hand(app)
        make_unreadable(app)

    moved = moves(app)
    seen_moves = {(move.was, move.state) for move in moved}
    assert (seen_moves - EDGES, EDGES - seen_moves) == (set(), set())
    assert [move for move in moved if not ended_as_it_says(move)] == []
    assert {move.outcome for move in moved} == {None, *JobOutcome}
    assert never_sent(app, seen) == []


def watch(app):
    with app.engine.begin() as connection:
        connection.execute(
            text("CREATE TABLE job_moves (was TEXT, state TEXT, outcome TEXT)")
        )
        for statement in WATCHED[app.engine.dialect.name]:
            connection.execute(text(statement))


def moves(app):
    with app.engine.connect() as connection:
        return set(connection.execute(text("SELECT * FROM job_moves")))


def never_sent(app, seen):
    """Statements that there are, change the state of a job, and were not tried here."""
    sent = {flat(statement) for statement in seen}
    changing = re.compile(r"UPDATE statejobs_jobs SET (?:(?!WHERE).)*\bstate=")
    made = {flat(statement) for statement in plans.made(app.engine.dialect)}
    return sorted(text for text in made - sent if changing.search(text))


def flat(statement):
    """The text of *statement*, however its parameters are written."""
    same = re.sub(r"__\[POSTCOMPILE_\w+\]|%\(\w+\)s(?:::\w+(?:\[\])?)?", "?", statement)
    return " ".join(re.sub(r"\?(?:, \?)*", "?", same).split())


def enqueue_for_later(app):
    """Enqueue onto a job in each state but `completed`."""
    app.drain()
    parcels.script.weigh = fail
    given_up, failed = enqueue(app, Letter, "put_on_scale", 2)
    run_queued(app)
    app.retry_job(job_of(app, Letter, given_up).id)
    run_queued(app)
    queued, cancelled, running = enqueue(app, Letter, "put_on_scale", 3)
    app.cancel_job(job_of(app, Letter, cancelled).id)
    parcels.reset_script()
    enqueue_again(app, (given_up, failed, queued, cancelled))
    (claim,) = app.runner().claim("default", limit=1)
    assert claim.job.record_id == str(running)
    enqueue_again(app, [running])
    app.runner().run(claim)


def run_queued(app):
    runner = app.runner()
    for claim in runner.claim("default", limit=10):
        runner.run(claim)


def fail(*_args):
    raise RuntimeError("no")


def enqueue_again(app, keys):
    with app.session() as session:
        letters = [session.get_one(Letter, key) for key in keys]
        Letter.put_on_scale.options(delay=timedelta(hours=1)).enqueue_many(
            session, letters
        )
        session.commit()


def refuse_claims(app):
    """Let the claim of a record be refused until its attempts are used up."""
    (refused,) = send(app)
    refuse_updates(app, "parcels", f"NEW.id = {refused} AND NEW.state = 'sending'")
    for _ in range(3):
        app.drain()
        app.sources.clock.advance(minutes=1)
    allow_updates(app, "parcels")
    assert job_of(app, Parcel, refused).state is JobState.DISCARDED
    fire(app, Parcel, refused, "find")
    app.drain()


def decide_by_hand(app):
    """Retry what is completed; let what failed wait longer, and cancel it."""
    ask(app)
    app.drain()
    (asked, *_) = app.queries.jobs(states=[JobState.COMPLETED], key="errand.run")
    app.retry_job(asked.id)
    parcels.script.send = fail
    (failed,) = send(app)
    run_queued(app)
    job_id = job_of(app, Parcel, failed).id
    app.edit_job(job_id, run_at=app.sources.clock.now() + timedelta(hours=1))
    app.cancel_job(job_id)
    parcels.reset_script()


def take_a_place(app):
    """Let the place of a record be taken, so that its job is put back."""
    first, second = send(app, 2)
    take = "CREATE UNIQUE INDEX one_sending ON parcels (note) WHERE state IN ('sending', 'sent')"
    execute(app, "UPDATE parcels SET note = id", take)
    execute(app, f"UPDATE parcels SET note = 'x' WHERE id IN ({first}, {second})")
    app.drain()
    execute(app, "DROP INDEX one_sending")


def stage_by_hand(app):
    """As when staging as a whole was refused."""
    store, now = app.store, app.sources.clock.now() + timedelta(days=1)
    due = find_due(store, ["default"], ["letter.weigh"], now, limit=10)
    assert stage_listed(store, due)


def make_unreadable(app):
    (key,) = send(app)
    never = "infinity" if is_postgres(app) else "soon"
    execute(
        app,
        f"UPDATE statejobs_jobs SET started_at = '{never}' WHERE record_id = '{key}'",
    )
    run_queued(app)
