"""A bulk transition does to many records what firing it on each would do."""

import asyncio
import threading
import uuid
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, insert, select, true, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from statejobs import (
    BulkResult,
    Domain,
    StaleTransitionError,
    StateJobs,
    acting_as,
    configure_sqlite,
    tenant,
)
from statejobs.record.identity import encode_identity
from statejobs.record.ledger import CLOCK, IDS
from statejobs.store.engines.factory import async_url, make_listener
from statejobs.store.key_text import key_text
from statejobs.store.tables import jobs
from statejobs.values.job import JobState
from tests.resource.support import Step, statements_on
from tests.support.ends import ended_in
from tests.support.mails import Base, Fax, Letter, Mail
from tests.support.processes import DEADLINE
from tests.support.shop import StoppedClock, read_history_rows, read_jobs, shop_engine


@pytest.fixture
def engine(database_url):
    with shop_engine(database_url, Base) as opened:
        yield opened


@pytest.fixture
def session(engine):
    with Session(engine, info={CLOCK: StoppedClock()}) as opened:
        yield opened


def new_mails(engine, count, *, state=Step.NEW, cls=Mail, **values):
    """Insert *count* records that rest in *state*; return their ids."""
    with Session(engine) as session:
        mails = [cls(**values) for _ in range(count)]
        session.add_all(mails)
        session.flush()
        session.connection().execute(
            update(Mail.__table__)
            .where(Mail.__table__.c.id.in_([m.id for m in mails]))
            .values(state=state)
        )
        session.commit()
        return [mail.id for mail in mails]


def new_job(engine, mail_id, state, **values):
    """Insert a job of a mail in *state*."""
    at = StoppedClock().now()
    row = {
        "key": "mail.send",
        "queue": "old",
        "priority": 9,
        "state": state,
        "outcome": ended_in(state),
        "run_at": at,
        "args": "{}",
        "resource": "Mail",
        "record_id": str(mail_id),
        "max_attempts": 3,
        "dedupe_key": f"mail.send:{mail_id}",
        "idempotency_key": f"old-{mail_id}",
        "tags": "[]",
        "enqueued_at": at,
        **values,
    }
    with engine.begin() as connection:
        connection.execute(insert(jobs).values(row))


def facts(engine, ids):
    """What is stored for each of *ids*, in their order, without what must differ."""
    with Session(engine) as session:
        records = {
            m.id: m for m in session.scalars(select(Mail).where(Mail.id.in_(ids)))
        }
    stored = [job for job in read_jobs(engine) if int(job.record_id) in ids]
    found = []
    for id_ in ids:
        mail = records[id_]
        history = [
            (
                h.resource,
                h.name,
                h.source,
                h.target,
                h.version,
                h.actor,
                h.tenant,
                h.args,
                h.reason,
                h.at,
                h.job_id,
                h.attempt,
            )
            for h in read_history_rows(engine, id_)
            if h.name != "create"
        ]
        own = [job_facts(job) for job in stored if job.record_id == str(id_)]
        found.append(
            (
                mail.state,
                mail.state_version,
                mail.state_changed_at,
                mail.changes,
                history,
                own,
            )
        )
    return found


def job_facts(job):
    fresh = not job.idempotency_key.startswith("old-")
    names = (
        "key",
        "queue",
        "priority",
        "state",
        "run_at",
        "args",
        "resource",
        "actor",
        "tenant",
        "tags",
        "attempt",
        "max_attempts",
        "crashes",
        "coalesced",
        "run_again",
        "cancel_requested",
        "finished_at",
        "enqueued_at",
        "reason",
    )
    return (fresh, *(getattr(job, name) for name in names))


EARLIER_JOBS = [
    None,
    {"state": "completed", "finished_at": StoppedClock().now()},
    {"state": "queued"},
    {"state": "scheduled", "attempt": 1},
    {"state": "failed", "attempt": 2, "crashes": 1},
    {"state": "processing", "attempt": 1, "owner": "n", "token": "t", "reason": "x"},
    {
        "state": "processing",
        "attempt": 1,
        "owner": "n",
        "token": "t",
        "cancel_requested": True,
    },
    {
        "state": "cancelled",
        "attempt": 1,
        "reason": "stop",
        "finished_at": StoppedClock().now(),
    },
    {
        "state": "discarded",
        "attempt": 3,
        "reason": "gave up",
        "finished_at": StoppedClock().now(),
    },
]


@pytest.mark.parametrize("is_held", [False, True], ids=["unloaded", "loaded"])
@pytest.mark.parametrize(
    ("name", "args"), [("post", {}), ("again", {}), ("drop", {"reason": "é"})]
)
def test_it_writes_what_firing_on_each_record_writes(engine, name, args, is_held):
    """Whatever the source and whatever became of an earlier job."""
    sources = getattr(Mail, name).source
    pairs = []
    for source in sources:
        for earlier in EARLIER_JOBS:
            one, other = new_mails(engine, 2, state=source, size=3)
            pairs.append((one, other))
            for id_ in (one, other) if earlier else ():
                new_job(engine, id_, **earlier)
    singly, together = (list(ids) for ids in zip(*pairs, strict=True))
    clock = StoppedClock()
    clock.advance(hours=1)

    with (
        acting_as("user:7"),
        tenant("acme"),
        Session(engine, info={CLOCK: clock}) as session,
    ):
        for mail in session.scalars(select(Mail).where(Mail.id.in_(singly))):
            getattr(mail, name)(**args)
        session.commit()
    with (
        acting_as("user:7"),
        tenant("acme"),
        Session(engine, info={CLOCK: clock}) as session,
    ):
        held = session.scalars(select(Mail)).all() if is_held else []
        result = getattr(Mail, name).bulk(
            session, where=Mail.id.in_(together), args=args
        )
        session.commit()

    assert result.moved == len(together)
    assert facts(engine, together) == facts(engine, singly)
    assert len(held) == (2 * len(together) if is_held else 0)


def test_it_counts_what_became_of_the_jobs(engine, session):
    states = [None, "queued", "processing", "discarded", "completed"]
    for state in states:
        (id_,) = new_mails(engine, 1)
        if state:
            new_job(engine, id_, state, attempt=1)

    result = Mail.post.bulk(session, where=true())

    assert result == BulkResult(
        moved=5, inserted=2, coalesced=1, run_again=1, retried=1
    )


def test_only_records_in_a_source_that_match_and_whose_guards_agree_move(
    engine, session
):
    wanted = new_mails(engine, 2, size=5)
    new_mails(engine, 1, size=0)
    new_mails(engine, 1, size=50)
    new_mails(engine, 1, size=5, state=Step.OLD)

    assert Mail.post.bulk(session, where=Mail.size < 10).moved == 2
    session.commit()

    moved = session.scalars(select(Mail.id).where(Mail.state == Step.QUEUED)).all()
    assert sorted(moved) == wanted


def test_moving_nothing_writes_nothing(engine, session):
    assert Mail.post.bulk(session, where=true()) == BulkResult(moved=0)
    assert Mail.drop.bulk(session, where=true(), args={"reason": "x"}) == BulkResult(
        moved=0
    )
    session.commit()

    assert read_history_rows(engine) == []
    assert read_jobs(engine) == []


def test_a_limit_takes_that_many_over_all_sources(engine, session):
    for state in (Step.NEW, Step.QUEUED, Step.FAILED):
        new_mails(engine, 3, state=state)

    moved = [
        Mail.drop.bulk(session, where=true(), args={"reason": "x"}, limit=4).moved
        for _ in range(4)
    ]

    assert moved == [4, 4, 1, 0]


def test_a_rollback_takes_everything_with_it(engine, session):
    new_mails(engine, 3)
    with session.begin_nested() as savepoint:
        Mail.post.bulk(session, where=true())
        savepoint.rollback()
    session.commit()

    assert read_jobs(engine) == []
    assert session.scalar(select(func.count()).where(Mail.state == Step.NEW)) == 3


def test_nothing_is_committed_for_the_caller(engine, session):
    new_mails(engine, 3)
    Mail.post.bulk(session, where=true())

    assert read_jobs(engine) == []
    session.commit()
    assert len(read_jobs(engine)) == 3


def test_pending_changes_of_the_session_are_seen(engine, session):
    mail = Mail(size=2)
    session.add(mail)

    assert Mail.post.bulk(session, where=Mail.size == 2).moved == 1
    assert (mail.state, mail.state_version) == (Step.QUEUED, 1)


def test_records_that_the_session_holds_show_what_happened(engine, session):
    ids = new_mails(engine, 3)
    first, second, third = session.scalars(select(Mail).order_by(Mail.id)).all()
    values = {Mail.note: "sent", "size": Mail.size + 1}

    Mail.post.bulk(session, where=Mail.id != third.id, values=values)

    with statements_on(engine) as count:
        assert (first.state, first.state_version, first.note) == (
            Step.QUEUED,
            1,
            "sent",
        )
        assert first.state_changed_at == StoppedClock().now()
        assert (third.state, third.state_version, third.note) == (Step.NEW, 0, None)
        assert count("SELECT") == 0
    assert (second.size, second.changes) == (2, 7)
    again = session.scalars(select(Mail).where(Mail.id == ids[0])).one()
    again.drop("it may fire at once")
    session.commit()


def test_values_are_written_with_the_state(engine, session):
    new_mails(engine, 2, size=4)
    Mail.post.bulk(
        session, where=true(), values={"note": "x", Mail.size: Mail.size * 2}
    )
    session.commit()

    assert session.execute(select(Mail.note, Mail.size)).all() == [("x", 8), ("x", 8)]


def test_values_stand_for_a_body(engine, session):
    new_mails(engine, 1)
    assert (
        Mail.annotate.bulk(session, where=true(), values={"note": "by hand"}).moved == 1
    )

    assert session.scalars(select(Mail.note)).one() == "by hand"


def test_columns_with_onupdate_are_written(engine, session):
    new_mails(engine, 2)
    Mail.post.bulk(session, where=true())
    session.commit()

    assert session.scalars(select(Mail.changes)).all() == [7, 7]


def test_a_subclass_moves_its_own_records_by_its_own_columns(engine, session):
    new_mails(engine, 1)
    new_mails(engine, 1, cls=Letter, stamp="red")
    (blue,) = new_mails(engine, 1, cls=Letter, stamp="blue")

    assert Letter.post.bulk(session, where=Letter.stamp == "blue").moved == 1
    assert Letter.post.bulk(session, where=true()).moved == 1
    session.commit()

    assert read_jobs(engine)[0].record_id == str(blue)
    assert {row.resource for row in read_history_rows(engine)} == {"Mail"}


def test_jobs_of_a_trigger_that_only_a_subclass_has_are_left_too(engine, session):
    (letter,) = new_mails(engine, 1, cls=Letter, state=Step.FAILED)
    new_job(
        engine,
        letter,
        "queued",
        key="letter.collect",
        dedupe_key=f"letter.collect:{letter}",
    )

    Mail.again.bulk(session, where=true())
    session.commit()

    collect = next(job for job in read_jobs(engine) if job.key == "letter.collect")
    assert (collect.state, collect.reason) == (JobState.CANCELLED, "left by again")


def test_composite_keys_without_history_and_an_async_transition(engine, session):
    keys = [('a"ä\\', 1, uuid.UUID(int=7)), ("b", 2, uuid.UUID(int=8))]
    session.add_all([Fax(number=n, page=p, batch=b) for n, p, b in keys])
    session.commit()
    session.expunge_all()

    assert Fax.post.bulk(session, where=true()) == BulkResult(moved=2, inserted=2)
    session.commit()

    assert {job.record_id for job in read_jobs(engine)} == {
        encode_identity(key) for key in keys
    }
    assert read_history_rows(engine) == []


def test_idempotency_keys_are_unique_and_come_from_the_sessions_ids(engine):
    new_mails(engine, 5)
    with Session(engine, info={IDS: lambda: "one-id"}) as session:
        Mail.post.bulk(session, where=true())
        session.commit()

    keys = {job.idempotency_key for job in read_jobs(engine)}
    assert len(keys) == 5
    assert all(key.startswith("one-id.") for key in keys)


def test_it_takes_few_statements(engine, session):
    new_mails(engine, 50)
    with statements_on(engine) as count:
        Mail.post.bulk(session, where=true())
        sent = count("")

    assert sent <= (1 if engine.dialect.name == "postgresql" else 9)


def test_jobs_run_and_bring_their_records_on(engine, session):
    new_mails(engine, 3)
    Mail.post.bulk(session, where=true())
    session.commit()

    app = StateJobs(
        engine, domains=[Domain("post", resources=[Mail])], queues={"mails": 3}
    )
    app.drain()

    assert session.scalars(select(Mail.state)).all() == [Step.DONE] * 3


def test_an_async_session(engine):
    ids = new_mails(engine, 2)

    async def post():
        opened = create_async_engine(async_url(engine))
        if engine.dialect.name == "sqlite":
            configure_sqlite(opened.sync_engine)
        async with AsyncSession(opened) as session:
            mail = await session.get_one(Mail, ids[0])
            result = await Mail.post.bulk_async(session, where=true())
            assert (mail.state, mail.state_version) == (Step.QUEUED, 1)
            await session.commit()
        await opened.dispose()
        return result

    assert asyncio.run(post()).inserted == 2
    assert len(read_jobs(engine)) == 2


def test_workers_are_told(engine, session):
    new_mails(engine, 2)
    told, ready = threading.Event(), threading.Event()

    def tell():
        (
            told if ready.is_set() else ready
        ).set()  # PostgreSQL calls once when it listens

    listener = make_listener(engine, "n" * 32, tell, Random(1))
    listener.start()
    if engine.dialect.name == "sqlite":
        ready.set()
    assert ready.wait(DEADLINE)
    Mail.post.bulk(session, where=true())
    session.commit()

    assert told.wait(DEADLINE)
    listener.stop()


@pytest.mark.postgres
def test_a_job_that_was_enqueued_while_it_waited_for_the_record_is_cancelled(
    postgres_url,
):
    """The job is newer than the snapshot of the statement that moves its record."""
    with shop_engine(postgres_url, Base) as engine:
        (id_,) = new_mails(engine, 1)
        with Session(engine) as racer, Session(engine) as session:
            racer.get_one(Mail, id_).post()
            racer.flush()
            result = []
            thread = threading.Thread(
                target=lambda: result.append(
                    Mail.drop.bulk(session, where=true(), args={"reason": "x"})
                )
            )
            thread.start()
            wait_for_a_lock(engine)
            racer.commit()
            thread.join(DEADLINE)
            session.commit()

        assert result == [BulkResult(moved=1)]
        (job,) = read_jobs(engine)
        assert (job.state, job.reason) == (JobState.CANCELLED, "left by drop")
        assert [r.source for r in read_history_rows(engine, id_)][-1] == "queued"


@pytest.mark.postgres
def test_a_record_that_was_moved_while_it_waited_is_left_alone(postgres_url):
    with shop_engine(postgres_url, Base) as engine:
        (id_,) = new_mails(engine, 1)
        with Session(engine) as racer, Session(engine) as session:
            racer.get_one(Mail, id_).drop("first")
            racer.flush()
            result = []
            thread = threading.Thread(
                target=lambda: result.append(Mail.post.bulk(session, where=true()))
            )
            thread.start()
            wait_for_a_lock(engine)
            racer.commit()
            thread.join(DEADLINE)
            session.commit()

        assert result == [BulkResult(moved=0)]
        assert read_jobs(engine) == []


@pytest.mark.postgres
def test_a_lost_race_under_repeatable_read_is_a_stale_transition(postgres_url):
    with shop_engine(postgres_url, Base) as engine:
        (id_,) = new_mails(engine, 1)
        strict = engine.execution_options(isolation_level="REPEATABLE READ")
        with Session(engine) as racer, Session(strict) as session:
            session.scalar(select(func.count()).select_from(Mail))
            racer.get_one(Mail, id_).drop("first")
            racer.commit()

            with pytest.raises(
                StaleTransitionError, match=r"Mail .many.: 'post' expected 'new or"
            ):
                Mail.post.bulk(session, where=true())


def wait_for_a_lock(engine):
    """Wait until a connection waits for what another has locked."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    for _ in range(2000):
        with engine.connect() as connection:
            if connection.exec_driver_sql(waiting).scalar():
                return
    raise AssertionError("nobody waited")


text = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    number=text
    | st.sampled_from(["", '"', "\\", "\x01\x1f\x7f\t\n", "é😀\u2028", " a "]),
    page=st.integers(-(2**31), 2**31 - 1),
    batch=st.uuids(),
)
def test_the_text_of_a_key_is_the_same_in_python_and_in_sql(
    engine, number, page, batch
):
    with engine.connect() as connection:
        connection.execute(
            insert(Fax.__table__).values(
                number=number, page=page, batch=batch, state=Step.NEW
            )
        )
        columns = list(Fax.__table__.primary_key.columns)
        parts = [key_text([c], engine.dialect, where="t") for c in columns]
        whole = key_text(columns, engine.dialect, where="t")
        row = connection.execute(select(whole, *parts)).one()
        connection.rollback()

    values = (number, page, batch)
    assert row[0] == encode_identity(values)
    assert row[1:] == tuple(encode_identity([value]) for value in values)


def test_locks_are_taken_in_the_order_in_which_a_flush_takes_them(engine, session):
    """So that the two cannot deadlock."""
    new_mails(engine, 12)
    with statements_on(engine) as count:
        Mail.post.bulk(session, where=true())
        locking = count("ORDER BY mails.id FOR NO KEY UPDATE OF mails")
    session.commit()

    ids = [int(job.record_id) for job in read_jobs(engine)]
    assert ids == sorted(ids)
    assert locking == (engine.dialect.name == "postgresql")
