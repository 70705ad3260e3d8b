"""No body ends the transaction of its attempt, whatever it says, so that nothing is half done."""

import contextlib

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from statejobs import AsyncJobContext, Domain, JobContext, StateJobs, task
from statejobs.store.engines.kept import ending_in
from tests.runner.test_commits_of_bodies import fill
from tests.support import forms
from tests.support.forms import FORMS, Atomic, Board, Plain, S, board, office
from tests.support.parcels import close_app

NAMES = [kind.__name__ for kind in FORMS]


def sql(words):
    return lambda session: session.execute(text(words))


def by_driver_sql(session):
    session.connection().exec_driver_sql("SELECT 1; COMMIT")


ENDS = {
    "commit of the transaction": lambda s: s.connection().get_transaction().commit(),
    "rollback of the transaction": lambda s: (
        s.connection().get_transaction().rollback()
    ),
    "close of the transaction": lambda s: s.connection().get_transaction().close(),
    "rollback of the connection": lambda s: s.connection().rollback(),
    "detach": lambda s: s.connection().detach(),
    "COMMIT": sql("COMMIT"),
    "END": sql("-- the end\n end"),
    "ROLLBACK": sql(" /* all */ rollback work"),
    "BEGIN": sql("BEGIN"),
    "after another": by_driver_sql,
}


def run(app, kind, body):
    """Run *body* as the action of a new record; return the outcome, its words and the board."""
    (key,) = fill(app, kind, 1)
    forms.script.body = lambda _records, session, _ctx: body(session)
    app.drain()
    job = app.queries.jobs()[0]
    attempts = app.queries.attempts(job.id)
    with app.session() as session:
        is_done = session.get(kind, key).state is S.DONE
    if attempts:
        return attempts[-1]["outcome"], attempts[-1]["message"], is_done
    return job.state, "", is_done


@pytest.mark.parametrize("kind", FORMS, ids=NAMES)
def test_what_would_end_the_transaction_fails_the_attempt_and_keeps_nothing(
    database_url, kind
):
    with office(database_url, resources=[kind]) as app:
        found = {}
        for name, end in ENDS.items():
            for place in ("first", "between", "last"):

                def body(session, end=end, place=place):
                    if place != "first":
                        forms.write_on_board(session)
                    end(session)
                    if place != "last":
                        forms.write_on_board(session)

                outcome, message, is_done = run(app, kind, body)
                found[name, place] = (
                    outcome,
                    "the runner commits" in message,
                    is_done,
                    board(app),
                )

    assert set(found.values()) == {("failed", True, False, 0)}, found


@pytest.mark.parametrize("kind", FORMS, ids=NAMES)
def test_a_body_that_catches_the_refusal_keeps_all_that_it_writes(database_url, kind):
    with office(database_url, resources=[kind]) as app:
        for number, end in enumerate(ENDS.values(), start=1):

            def body(session, end=end):
                forms.write_on_board(session)
                with contextlib.suppress(Exception):
                    end(session)
                forms.write_on_board(session)

            assert run(app, kind, body) == ("completed", "", True)
            assert board(app) == 2 * number


@pytest.mark.parametrize("kind", FORMS, ids=NAMES)
@pytest.mark.parametrize("place", ["between", "last"])
def test_an_end_past_sqlalchemy_is_told(database_url, kind, place):
    def body(session):
        forms.write_on_board(session)
        session.connection().connection.rollback()
        if place == "between":
            forms.write_on_board(session)

    with office(database_url, resources=[kind]) as app:
        outcome, message, is_done = run(app, kind, body)

        assert (outcome, is_done, board(app)) == ("failed", False, 0)
        assert "ended before the action did" in message


@pytest.mark.parametrize("kind", FORMS, ids=NAMES)
def test_rollbacks_and_savepoints_of_the_session_are_served(database_url, kind):
    def body(session):
        forms.write_on_board(session)
        session.rollback()
        with session.begin_nested():
            forms.write_on_board(session)
        with contextlib.suppress(ValueError), session.begin_nested():
            forms.write_on_board(session)
            raise ValueError
        savepoint = session.connection().begin_nested()
        forms.write_on_board(session)
        savepoint.rollback()
        session.execute(text("SAVEPOINT mine"))
        forms.write_on_board(session)
        session.execute(text("ROLLBACK TO SAVEPOINT mine"))
        session.execute(text("RELEASE SAVEPOINT mine"))

    with office(database_url, resources=[kind]) as app:
        assert run(app, kind, body) == ("completed", "", True)
        assert board(app) == 1


def test_one_that_ends_its_savepoint_does_not_stop_its_neighbours(database_url):
    def body(records, session, _ctx):
        forms.write_on_board(session)
        if records[0].id == culprit:
            session.connection().get_nested_transaction().commit()

    with office(database_url, resources=[Atomic]) as app:
        keys = fill(app, Atomic, 5)
        culprit = keys[2]
        forms.script.body = body
        app.drain()

        with app.session() as session:
            done = [key for key in keys if session.get(Atomic, key).state is S.DONE]
        assert (done, board(app)) == ([key for key in keys if key != culprit], 4)


def test_a_statement_that_fails_may_be_caught_as_ever(database_url):
    def body(session):
        forms.write_on_board(session)
        with contextlib.suppress(SQLAlchemyError), session.begin_nested():
            session.execute(text("SELECT nothing FROM nowhere"))
        forms.write_on_board(session)

    with office(database_url, resources=[Plain]) as app:
        assert run(app, Plain, body) == ("completed", "", True)
        assert board(app) == 2


@task("ends.def")
def end_in_task(ctx: JobContext) -> None:
    forms.write_on_board(ctx.session)
    ctx.session.connection().get_transaction().commit()


@task("ends.async")
async def end_in_async_task(ctx: AsyncJobContext) -> None:
    connection = await ctx.session.connection()
    await connection.execute(text("UPDATE boards SET n = n + 1"))
    await connection.get_transaction().commit()


@task("ends.async_sql")
async def end_in_sql(ctx: AsyncJobContext) -> None:
    await ctx.session.execute(text("UPDATE boards SET n = n + 1"))
    await ctx.session.execute(text("COMMIT"))


def test_tasks_cannot_either(database_url):
    tasks = [end_in_task, end_in_async_task, end_in_sql]
    app = StateJobs(database_url, domains=[Domain("ends", tasks=tasks)])
    app.create_all()
    forms.Base.metadata.create_all(app.engine)
    try:
        with app.session() as session:
            session.add(Board(id=1))
            for one in tasks:
                one.enqueue(session)
            session.commit()

        assert app.drain().counts == {"fail": 3}
        assert board(app) == 0
        for job in app.queries.jobs():
            assert "the runner commits" in app.queries.attempts(job.id)[0]["message"]
    finally:
        close_app(app)


@pytest.mark.parametrize(
    ("statement", "ending"),
    [
        ("COMMIT AND CHAIN", "COMMIT AND CHAIN"),
        ("start transaction", "START TRANSACTION"),
        ("ABORT", "ABORT"),
        ("PREPARE TRANSACTION 'x'", "PREPARE TRANSACTION"),
        ("INSERT INTO a VALUES ('x''; --'); COMMIT", "COMMIT"),
        ("SELECT $a$;$a$; END", "END"),
        ("CREATE TABLE a (n int); COMMIT", "COMMIT"),
        ("SELECT '; COMMIT'", None),
        ('SELECT 1 AS "; COMMIT"', None),
        ("SELECT E'\\'; COMMIT; '", None),
        ("SELECT 1 -- ; COMMIT", None),
        ("SELECT 1 /* ; COMMIT */", None),
        ("DO $x$ BEGIN NULL; END $x$", None),
        ("CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM b; END", None),
        ("SELECT CASE WHEN true THEN 1 END", None),
        ("ROLLBACK TRANSACTION TO SAVEPOINT a", None),
        ("PREPARE plan AS SELECT 1", None),
        ("SAVEPOINT a", None),
        ("", None),
    ],
)
def test_which_statements_end_a_transaction(statement, ending):
    assert ending_in(statement) == ending
