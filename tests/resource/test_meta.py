"""What programs note on a job comes back as it was, and is never part of its identity."""

import json
from dataclasses import replace
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    ChunkContext,
    DefinitionError,
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    Trigger,
    WrongValueError,
    state_column,
    task,
    transition,
)
from statejobs.people.jobs import job_page
from statejobs.values.meta import MOST_META, meta_text, read_meta
from tests.cli.conftest import Shell
from tests.support.clock import ManualClock, manual_sources


class Base(DeclarativeBase):
    """The user's base."""


class S(StrEnum):
    NEW = "new"
    SENT = "sent"
    READ = "read"


class Noted:
    """A mixin whose trigger notes what its record says."""

    channel: Mapped[str | None]
    notify = Trigger.on_demand(
        "{resource}.notify", meta=lambda record: {"channel": record.channel}
    )


seen = []


class Mail(Noted, StatefulResource, Base):
    __tablename__ = "mails"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[S] = state_column(S, initial=S.NEW)
    count = Trigger.on_demand("mail.count", meta={"by": ["code"]}, chunk=10)

    @transition(S.NEW, S.SENT, run_trigger=Noted.notify)
    def send(self) -> None: ...

    @transition(S.NEW, S.READ, run_trigger=count)
    def read(self) -> None: ...

    @Noted.notify.action(S.SENT, S.SENT)
    def tell(self, ctx: JobContext) -> None:
        seen.append(ctx.job.meta)

    @count.action(S.READ, S.READ)
    @staticmethod
    def count_all(records: list["Mail"], ctx: ChunkContext) -> None:
        seen.extend(job.meta for job in ctx.jobs)


@task("mail.sweep", meta={"nightly": True, "password": "hunter2"})
def sweep(ctx: JobContext) -> None:
    seen.append(ctx.job.meta)


DOMAIN = Domain("mails", resources=[Mail], tasks=[sweep])


def make_app(database):
    return StateJobs(database, domains=[DOMAIN], sources=manual_sources(ManualClock()))


@pytest.fixture
def app(database_url):
    seen.clear()
    with make_app(database_url) as app:
        app.create_all()
        yield app


@pytest.fixture
def session(app):
    with app.session() as session:
        yield session


def test_it_is_made_from_the_record_when_its_transition_is_flushed(app, session):
    mail = Mail(channel="fax")
    session.add(mail)
    mail.send()
    mail.channel = "pigeon"
    session.commit()

    app.drain()

    assert seen == [{"channel": "pigeon"}]


def test_it_is_made_from_each_record_that_is_enqueued(app, session):
    mails = [Mail(channel=name) for name in ("fax", None)]
    session.add_all(mails)
    for mail in mails:
        mail.send()
    session.commit()
    app.drain()
    seen.clear()

    Mail.tell.enqueue_many(session, mails)
    session.commit()
    app.drain()

    assert seen == [{"channel": "fax"}, {"channel": None}]


def test_a_fixed_one_is_written_by_statements_for_many_and_reaches_a_call_for_many(
    app, session
):
    session.execute(insert(Mail), [{"id": 1}, {"id": 2}])
    Mail.read.bulk(session, where=Mail.state == S.NEW)
    session.commit()

    app.drain()

    assert seen == [{"by": ["code"]}] * 2


def test_one_of_the_record_is_made_for_each_of_a_bulk_move(app, session):
    session.add_all([Mail(channel="fax"), Mail()])
    session.commit()

    Mail.send.bulk(session, where=Mail.state == S.NEW)
    session.commit()
    app.drain()

    assert seen == [{"channel": "fax"}, {"channel": None}]


def test_a_task_has_its_own_and_one_request_another(app, session):
    sweep.enqueue(session)
    sweep.options(meta={"by": "hand"}).enqueue(session)
    session.commit()

    app.drain()

    assert seen == [{"nightly": True, "password": "hunter2"}, {"by": "hand"}]


def test_a_job_without_one_has_an_empty_one(app, session):
    sweep.options(meta={}).enqueue(session)
    session.commit()

    app.drain()

    assert seen == [{}]


def test_what_a_body_does_to_its_copy_is_not_kept(app, session):
    sweep.enqueue(session)
    session.commit()
    app.drain()
    seen[0].clear()

    sweep.enqueue(session)
    session.commit()
    app.drain()

    assert seen[1] == {"nightly": True, "password": "hunter2"}


def test_people_see_it_without_secrets(app, session):
    job_id = sweep.enqueue(session).job_id
    session.commit()

    page = job_page(app.desk, app.queries.job(job_id))

    assert page.job.meta == {"nightly": True, "password": "***"}


def test_job_show_shows_it(database_url):
    with make_app(database_url) as app, app.session() as session:
        app.create_all()
        job_id = sweep.enqueue(session).job_id
        session.commit()
        typed = Shell("tests.resource.test_meta:make_app", database_url)

        shown = typed("job", "show", str(job_id))
        document = typed.json("job", "show", str(job_id))

    assert '{"nightly": true, "password": "***"}' in shown.stdout
    assert document["job"]["meta"]["nightly"] is True


def test_one_that_somebody_broke_is_shown_and_its_job_ends_as_unreadable(app, session):
    job_id = sweep.enqueue(session).job_id
    session.execute(text("UPDATE statejobs_jobs SET meta = 'nonsense'"))
    session.commit()

    assert app.queries.job(job_id).meta == {"(cannot be read)": "nonsense"}
    app.drain()

    job = app.queries.job(job_id)
    assert (job.state.value, seen) == ("discarded", [])
    assert "meta is no JSON" in job.reason


def test_a_function_that_returns_nonsense_fails_the_flush(session, monkeypatch):
    options = _notify().options
    assert options.of_record == "meta"
    broken = replace(options, meta=lambda record: {"at": {record.channel}})
    monkeypatch.setitem(vars(_notify()), "options", broken)
    mail = Mail(channel="fax")
    session.add(mail)
    mail.send()

    with pytest.raises(WrongValueError) as refused:
        session.commit()

    assert str(refused.value) == (
        f"a job of {_notify().key!r}: meta['at'] is set, but would come back as list: "
        "meta is stored as JSON; keep dicts, lists, text, numbers, true, false and None in it"
    )


def _notify():
    bounds = Mail.__statejobs__.triggers.values()
    return next(bound for bound in bounds if bound.name == "notify")


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside),
    max_leaves=10,
)


@given(meta=st.dictionaries(st.text(), plain))
def test_whatever_is_taken_comes_back_equal(meta):
    try:
        stored = meta_text("here", "meta", meta)
    except WrongValueError:
        return

    assert read_meta(stored) == meta
    assert json.loads(stored) == meta


@pytest.mark.parametrize("most", [0, 1])
def test_it_may_have_8_kb_and_not_a_byte_more(most):
    fits = {"n": "x" * (MOST_META - len('{"n":""}') + most)}

    if not most:
        assert len(meta_text("here", "meta", fits)) == MOST_META
        return
    with pytest.raises(WrongValueError) as refused:
        meta_text("here", "meta", fits)
    assert str(refused.value) == (
        "here: meta takes 8193 bytes of JSON: it is stored with each job, and read with it: "
        "8192 bytes at most; store it elsewhere, and keep its key in meta"
    )


@pytest.mark.parametrize(
    ("declare", "meta", "says"),
    [
        (task, 5, "task 'a.b': meta must be a mapping, not 5"),
        (task, lambda record: {}, "task 'a.b': meta must be a mapping, not <function"),
        (task, {1: 2}, "task 'a.b': meta has a key of type int; JSON has only str"),
        (task, {"a": (1,)}, "task 'a.b': meta['a'] is tuple, but would come back as"),
        (
            Trigger.on_demand,
            lambda: {"a": 1},
            "meta= cannot be called: too many positional",
        ),
    ],
)
def test_what_is_no_json_is_refused_where_it_is_declared(declare, meta, says):
    with pytest.raises((WrongValueError, DefinitionError)) as refused:
        declare("a.b", meta=meta)

    assert says in str(refused.value)
