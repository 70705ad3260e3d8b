"""No name of ours meets a column, table or attribute of the user's, whatever they are called.

The hostile names are the words of our own statements, taken while they run.
"""

import gc
import itertools
import re
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import event, inspect, literal_column, select, text
from sqlalchemy.dialects.postgresql.base import RESERVED_WORDS
from sqlalchemy.dialects.sqlite.base import SQLiteIdentifierPreparer
from sqlalchemy.engine import Engine

from statejobs import Domain, JobState, Snooze, StateJobs, WorkerSettings
from statejobs.store.prepared import Prepared
from tests.support.clock import ManualClock, manual_sources
from tests.support.parcels import LEASE, close_app
from tests.support.words import S, kinds_with, script, words_of

KEYWORDS = {*RESERVED_WORDS, *SQLiteIdentifierPreparer.reserved_words}
ODD = {"a:b", 'we"ird', "(x)", "a.b", "ä", "x" * 63, "[y]", " "}
# PostgreSQL has them in each table
SYSTEM = {
    "tableoid",
    "xmin",
    "cmin",
    "xmax",
    "cmax",
    "ctid",
}
ALIASES = re.compile(r"\b(\w+) AS (?:MATERIALIZED )?\(|\) AS (\w+)")


@pytest.fixture(autouse=True)
def _forget_script():
    yield
    do_nothing()


@pytest.mark.timeout(240)
def test_columns_may_have_every_name_of_ours(database_url):
    ours = names_seen(database_url, ["word"])
    others = names_seen(database_url, columns(ours)) - ours  # beside those columns

    assert {f"sj{n}_{name}" for n in range(1, 9) for name in ("was", "pk_0")} & others
    names_seen(
        database_url, columns({name for name in others if name.startswith("sj")})
    )


@pytest.mark.timeout(240)
def test_columns_may_have_every_keyword(database_url):
    names_seen(database_url, columns(KEYWORDS | ODD), tables=("select",))


@pytest.mark.timeout(240)
def test_tables_may_have_every_name_of_ours(database_url):
    aliases = set()
    with each_statement(
        lambda statement, _: aliases.update(*ALIASES.findall(statement))
    ):
        live(database_url, kinds_with(["word"]))
    ours = {name for name in aliases if name.startswith("sj_")}
    assert ours or is_sqlite(database_url)

    for table in sorted(ours):
        live(database_url, kinds_with(["was"], tables=(table,)))


@pytest.mark.parametrize(
    "name", ["version", "was", "moved_at", "pk_0", "c_0", "key", "why"]
)
def test_a_column_with_a_name_of_ours_keeps_what_it_has(database_url, name):
    kind, *others = kinds_with([name])
    with opened(database_url, [kind, *others]) as app:
        (key,) = add(app, kind, 1, **dict.fromkeys(words_of(kind), 7))
        fire(app, kind, key, "submit")
        app.drain()

        assert state_and_words(app, kind, key) == (S.DONE, {7})


def test_a_bulk_move_writes_columns_named_like_its_parameters(database_url):
    names = [
        "state_1",
        "state_version_1",
        "id_1",
        "param_1",
        "sj_c_0",
        "sj_becomes",
        "sj2_c_0",
    ]
    kind, *others = kinds_with(names)
    with opened(database_url, [kind, *others]) as app:
        first, second = add(app, kind, 2)
        with app.session() as session:
            matches = kind.id.in_([first, second]) & (kind.state != S.GONE)
            values = dict.fromkeys(words_of(kind), 5)
            assert kind.submit.bulk(session, where=matches, values=values).moved == 2
            session.commit()

        assert state_and_words(app, kind, first) == (S.QUEUED, {5})
        assert state_and_words(app, kind, second) == (S.QUEUED, {5})


@pytest.mark.parametrize(
    "name", ["picked", "moved", "moved_rows", "history", "enqueued"]
)
def test_a_bulk_move_takes_conditions_and_values_called_like_ours(database_url, name):
    kind, *others = kinds_with(["was"])
    with opened(database_url, [kind, *others]) as app:
        add(app, kind, 2)
        ids = select(kind.id.label("sj_pk_0")).where(kind.id > 0).cte(f"sj_{name}")
        given = text(":sj_c_0 = 1").bindparams(sj_c_0=1)
        with app.session() as session:
            where = kind.id.in_(select(ids.c.sj_pk_0)) & given
            values = {words_of(kind)[0]: literal_column("1 + was")}
            assert kind.submit.bulk(session, where=where, values=values).moved == 2


def live(url, kinds):
    """Let records of each form do whatever sends a statement, and see what is in their columns."""
    with opened(url, kinds) as app:
        for kind in kinds:
            move(app, kind)
            finish(app, kind)
            end_otherwise(app, kind)
            move_in_bulk(app, kind)
            lose_a_worker(app, kind)
            operate(app, kind)
        erase(app, kinds[0])
        app.sources.clock.advance(days=1000)
        assert not app.prune().is_empty
        with app.engine.begin() as connection:
            kinds[0].metadata.drop_all(connection)
            connection.execute(text("DELETE FROM statejobs_transitions"))


def move(app, kind):
    """Move new and stored records, two at once, beside a write to other columns."""
    first, second, third = add(app, kind, 3)
    with app.session() as session:
        records = [get(session, kind, key) for key in (first, second)]
        for record in records:
            record.submit()
        write(records, 1)
        session.commit()
    fire(app, kind, first, "drop")
    with app.session() as session:
        records = [get(session, kind, key) for key in (second, third)]
        records[1].submit()
        kind.run.options(delay=timedelta(hours=1)).enqueue_many(session, records)
        session.commit()

    assert state_and_words(app, kind, first) == (S.GONE, {1})
    assert state_and_words(app, kind, second) == (S.QUEUED, {1})
    assert state_and_words(app, kind, third) == (S.QUEUED, {None})


def finish(app, kind):
    """Complete alone and together: without changes, with own ones, through a flush."""

    def write_and_flush(records, session):
        write(records, 3)
        session.flush()

    bodies = [
        (lambda _records, _session: None, None),
        (lambda r, _: write(r, 2), 2),
        (write_and_flush, 3),
    ]
    for (body, value), number in itertools.product(bodies, (1, 3)):
        keys = submit(app, kind, number)
        script.body = body
        app.drain()
        do_nothing()
        assert {state_and_words(app, kind, k)[0] for k in keys} == {S.DONE}
        assert all(state_and_words(app, kind, k)[1] == {value} for k in keys)


def end_otherwise(app, kind):
    """Wait, fail, and find the way back."""
    for ending, state in (
        (Snooze(timedelta(seconds=30)), S.QUEUED),
        (OSError("no"), S.FAILED),
    ):
        keys = submit(app, kind, 2)
        script.body = raising(ending)
        app.drain()
        if state is S.FAILED:
            app.sources.clock.advance(minutes=5)
            app.drain()
        do_nothing()
        assert {state_and_words(app, kind, k)[0] for k in keys} == {state}
        for key in keys if state is S.FAILED else ():
            fire(app, kind, key, "submit")
        app.sources.clock.advance(minutes=5)
        app.drain()
        assert {state_and_words(app, kind, k)[0] for k in keys} == {S.DONE}


def move_in_bulk(app, kind):
    """Move by SQL alone: with jobs, with jobs that are left, with records that a session holds."""
    first, *others = add(app, kind, 3)
    values = dict.fromkeys(words_of(kind), 4)
    with app.session() as session:
        assert (
            kind.submit.bulk(session, where=kind.id == first, values=values).moved == 1
        )
        held = get(session, kind, others[0])
        matches = kind.id.in_(others)
        assert kind.submit.bulk(session, where=matches, values=values).moved == 2
        assert held.state is S.QUEUED
        assert kind.drop.bulk(session, where=kind.id == first, values={}).moved == 1
        session.commit()
    app.drain()

    assert state_and_words(app, kind, first) == (S.GONE, {4})
    assert [state_and_words(app, kind, k) for k in others] == [(S.DONE, {4})] * 2


def lose_a_worker(app, kind):
    """Rescue jobs, and leave out those whose record moved."""
    first, second = submit(app, kind, 2)
    assert len(app.runner().claim("default", limit=10)) == 2
    app.sources.clock.advance(LEASE * 2)
    app.runner().rescue()
    assert state_and_words(app, kind, first)[0] == S.QUEUED
    fire(app, kind, second, "drop")
    app.sources.clock.advance(minutes=10)
    app.drain()

    assert state_and_words(app, kind, first) == (S.DONE, {None})
    assert state_and_words(app, kind, second) == (S.GONE, {None})


def operate(app, kind):
    """Cancel and retry by hand."""
    (key,) = submit(app, kind, 1)
    (job, *_) = app.queries.jobs(resource=kind.__name__, limit=1)
    app.retry_job(job.id)
    assert app.cancel_job(job.id) is JobState.CANCELLED
    assert state_and_words(app, kind, key)[0] == S.FAILED
    app.retry_job(job.id)
    app.drain()

    assert state_and_words(app, kind, key) == (S.DONE, {None})
    assert app.stuck_jobs() == []


def erase(app, kind):
    """Run an action that deletes its record."""
    (key,) = submit(app, kind, 1)
    app.drain()
    with app.session() as session:
        kind.erase.enqueue(session, get(session, kind, key))
        session.commit()
    app.drain()
    with app.session() as session:
        assert session.get(kind, key) is None


@contextmanager
def opened(url, kinds):
    app = StateJobs(
        url,
        domains=[Domain("words", resources=kinds)],
        settings=WorkerSettings(lease=LEASE),
        sources=manual_sources(ManualClock()),
    )
    try:
        app.create_all()
        yield app
    finally:
        close_app(app)


def names_seen(url, words, tables=("defs", "asyncs", "chunks", "atomics")):
    """Live with tables that have *words* as columns; return the words of statements about them."""
    seen, kinds = set(), kinds_with(words, tables=tables)
    mentioned = re.compile("|".join(kind.__tablename__ for kind in kinds))

    def note(statement, compiled):
        if mentioned.search(statement) and "CREATE TABLE" not in statement:
            seen.update(re.findall(r"\w+", statement))
            seen.update(getattr(compiled, "binds", ()))

    with each_statement(note):
        live(url, kinds)
    prepared = [made for made in gc.get_objects() if type(made) is Prepared]
    return seen.union(*(made._constants for made in prepared))


@contextmanager
def each_statement(note):
    """Call *note* with each statement, as text and as compiled."""

    def listen(_connection, _cursor, statement, _parameters, context, _many):
        note(statement, context.compiled)

    event.listen(Engine, "before_cursor_execute", listen)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", listen)


def columns(words):
    """Those of *words* that can be columns, each once; of numbered ones the first few.

    A table of PostgreSQL has 1,600 columns at most.
    """
    fitting = {
        w.casefold(): w for w in words if 0 < len(w.encode()) <= 63 and not w.isdigit()
    }
    few = {
        key: w for key, w in fitting.items() if not re.search(r"_\d\d+$|__[1-9]$", key)
    }
    return sorted(w for key, w in few.items() if key not in SYSTEM)


def is_sqlite(url):
    return url.startswith("sqlite")


numbers = itertools.count(1)


def make(kind, number, **values):
    return [kind(id=next(numbers), **values) for _ in range(number)]


def add(app, kind, number, **values):
    """Commit records; return their numbers."""
    with app.session() as session:
        records = make(kind, number, **values)
        session.add_all(records)
        session.commit()
        return [record.id for record in records]


def submit(app, kind, number):
    """Commit records that were submitted, with a job each; return their numbers."""
    with app.session() as session:
        records = make(kind, number)
        session.add_all(records)
        for record in records:
            record.submit()
        session.commit()
        return [record.id for record in records]


def fire(app, kind, key, name):
    with app.session() as session:
        getattr(get(session, kind, key), name)()
        session.commit()


def get(session, kind, key):
    is_single = len(inspect(kind).primary_key) == 1
    return session.get_one(kind, key if is_single else (key, "a"))


def write(records, value):
    for record in records:
        for name in words_of(type(record)):
            setattr(record, name, value)


def state_and_words(app, kind, key):
    """The state of a record, and all values in its columns; {value} also when it has none."""
    with app.session() as session:
        record = get(session, kind, key)
        return record.state, {getattr(record, name) for name in words_of(kind)}


def raising(error):
    def body(_records, _session):
        raise error

    return body


def do_nothing():
    script.body = lambda _records, _session: None
