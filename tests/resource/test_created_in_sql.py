"""`insert(Model)` through a session creates records as a flush does: with history and jobs."""

import asyncio
import uuid
from datetime import timedelta

import pytest
from sqlalchemy import String, insert, literal, select, type_coerce
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ResourceClosedError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from statejobs import (
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    Trigger,
    acting_as,
    configure_sqlite,
    state_column,
    tenant,
)
from statejobs.record.ledger import CLOCK, JOB
from statejobs.store.engines.factory import async_url
from tests.resource.support import Step, statements_on
from tests.support.shop import StoppedClock, read_history_rows, read_jobs, shop_engine


class Base(DeclarativeBase): ...


class Visit(StatefulResource, Base):
    """Creation promises a job."""

    __tablename__ = "visits"

    id: Mapped[int] = mapped_column(primary_key=True)
    size: Mapped[int] = mapped_column(default=1)
    greet = Trigger.on_demand(
        "visit.greet",
        queue="doors",
        priority=3,
        max_attempts=2,
        tags=["door"],
        args={"word": "Hi"},
    )
    stage: Mapped[Step] = state_column(
        Step, initial=Step.NEW, run_trigger=greet, name="phase"
    )

    @greet.action(Step.NEW, Step.DONE)
    def say_hello(self, ctx: JobContext, word: str) -> None: ...


class Pass(StatefulResource, Base):
    """Keys of several types; no history."""

    __tablename__ = "passes"
    __history__ = False

    code: Mapped[str] = mapped_column(String(40), primary_key=True)
    batch: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    check = Trigger.on_demand("pass.check")
    state: Mapped[Step] = state_column(Step, initial=Step.NEW, run_trigger=check)

    @check.action(Step.NEW, Step.DONE)
    def look(self, ctx: JobContext) -> None: ...


class Plain(StatefulResource, Base):
    """Creation leaves nothing but the record."""

    __tablename__ = "plains"
    __history__ = False

    id: Mapped[int] = mapped_column(primary_key=True)
    size: Mapped[int] = mapped_column(default=1)
    state: Mapped[Step] = state_column(Step, initial=Step.NEW)


AT = StoppedClock().now()


@pytest.fixture
def engine(database_url):
    with shop_engine(database_url, Base) as opened:
        yield opened


@pytest.fixture
def session(engine):
    with Session(engine, info={CLOCK: StoppedClock()}) as opened:
        yield opened


def facts(engine, ids):
    """What is stored for each of *ids*, without what must differ."""
    with Session(engine) as session:
        records = {
            v.id: v for v in session.scalars(select(Visit).where(Visit.id.in_(ids)))
        }
    stored = read_jobs(engine)
    found = []
    for id_ in ids:
        visit = records[id_]
        history = [
            tuple(row)[1:2] + tuple(row)[3:] for row in read_history_rows(engine, id_)
        ]
        jobs = [
            (
                j.key,
                j.queue,
                j.priority,
                j.state,
                j.run_at,
                j.args,
                j.resource,
                j.actor,
                j.tenant,
                j.tags,
                j.attempt,
                j.max_attempts,
                j.enqueued_at,
                j.dedupe_key == f"visit.greet:{id_}",
            )
            for j in stored
            if j.record_id == str(id_)
        ]
        found.append(
            (visit.stage, visit.state_version, visit.state_changed_at, history, jobs)
        )
    return found


def upsert(session):
    """INSERT with ON CONFLICT, as the dialect of *session* has it."""
    is_postgresql = session.get_bind().dialect.name == "postgresql"
    return (postgresql if is_postgresql else sqlite).insert


TWO_ROWS = select(literal(1).label("size")).union_all(select(literal(2))).subquery()
FORMS = {
    "rows": lambda s: s.execute(insert(Visit), [{"size": 1}, {"size": 2}]),
    "rows of several forms": lambda s: s.execute(insert(Visit), [{"size": 1}, {}]),
    "rows with their keys": lambda s: s.execute(
        insert(Visit), [{"id": 801}, {"id": 800}]
    ),
    "many values": lambda s: s.execute(
        insert(Visit).values([{"size": 1}, {"size": 2}])
    ),
    "values by position": lambda s: s.execute(
        insert(Visit.__table__).values([(901,), (902,)])
    ),
    "select": lambda s: s.execute(
        insert(Visit).from_select(["size"], select(TWO_ROWS.c.size))
    ),
    "one by one": lambda s: [
        s.execute(insert(Visit).values(size=1)),
        s.execute(insert(Visit), {"size": 2}),
    ],
    "no values": lambda s: [s.execute(insert(Visit)), s.execute(insert(Visit))],
    "table": lambda s: s.execute(insert(Visit.__table__), [{"size": 1}, {"size": 2}]),
    "table alone": lambda s: [s.execute(Visit.__table__.insert()) for _ in "ab"],
    "raw": lambda s: s.execute(
        insert(Visit),
        [{"size": 1}, {"size": 2}],
        execution_options={"dml_strategy": "raw"},
    ),
    "records back": lambda s: s.scalars(insert(Visit).returning(Visit), [{}, {}]).all(),
    "scalar": lambda s: [
        s.scalar(insert(Visit).values(size=1).returning(Visit.id)) for _ in "ab"
    ],
    "nothing on conflict": lambda s: s.execute(
        upsert(s)(Visit).on_conflict_do_nothing(), [{}, {}]
    ),
    "query": lambda s: list(s.execute(insert(Visit).returning(Visit.id), [{}, {}])),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_it_writes_what_a_flush_of_new_records_writes(engine, session, form):
    with acting_as("user:7"), tenant("acme"):
        session.add_all([one := Visit(), other := Visit()])
        session.commit()
        singly = [one.id, other.id]
        form(session)
        session.commit()

    together = session.scalars(select(Visit.id).where(Visit.id.not_in(singly))).all()
    assert len(together) == 2
    assert facts(engine, together) == facts(engine, singly)
    assert len({job.idempotency_key for job in read_jobs(engine)}) == 4


def test_keys_of_any_type_name_their_jobs(engine, session):
    batch = uuid.UUID(int=7)
    session.execute(insert(Pass), [{"code": 'é"', "batch": batch}])
    session.execute(insert(Pass), [{"code": "x", "batch": batch}])
    session.commit()

    assert [job.record_id for job in read_jobs(engine)] == [
        f'["é\\"","{batch}"]',
        f'["x","{batch}"]',
    ]
    assert read_history_rows(engine) == []


def test_a_worker_runs_its_jobs(database_url):
    jobs = StateJobs(
        database_url, domains=[Domain("doors", resources=[Visit])], queues={"doors": 3}
    )
    jobs.create_all()
    Base.metadata.create_all(jobs.engine)
    with jobs.session() as session:
        session.execute(insert(Visit), [{} for _ in range(5)])
        session.commit()

    assert jobs.drain().counts == {"complete": 5}
    with jobs.session() as session:
        assert set(session.scalars(select(Visit.stage))) == {Step.DONE}
    jobs.engine.dispose()


def test_a_rollback_takes_everything_with_it(engine, session):
    with session.begin_nested() as savepoint:
        session.execute(insert(Visit), [{}, {}])
        savepoint.rollback()
    session.execute(insert(Visit), [{}])
    session.commit()

    assert len(read_history_rows(engine)) == len(read_jobs(engine)) == 1


def test_nothing_is_committed_for_the_caller(engine, session):
    session.execute(insert(Visit), [{}, {}])

    assert read_jobs(engine) == []


def test_many_records_take_as_many_statements_as_few(engine, session):
    session.execute(insert(Visit), [{}])
    with statements_on(engine) as sent:
        session.execute(insert(Visit), [{} for _ in range(500)])

    assert sent("statejobs_transitions") == 1
    # for jobs that earlier records left
    looks = 1 if engine.dialect.name == "sqlite" else 0
    assert sent("statejobs_jobs") == 1 + looks


def test_nothing_inserted_writes_nothing(engine, session):
    session.execute(insert(Visit).from_select(["size"], select(Visit.size)))
    session.commit()

    assert read_history_rows(engine) == read_jobs(engine) == []


def test_what_only_a_record_leaves_is_sent_as_it_is(engine, session):
    with statements_on(engine) as sent:
        result = session.execute(insert(Plain).values(size=3))
        session.commit()

    assert sent("INSERT") == 1
    assert result.inserted_primary_key == (1,)
    assert session.scalars(select(Plain.state)).all() == [Step.NEW]


def test_an_async_session_writes_it_too(engine):
    async def main():
        opened = create_async_engine(async_url(engine))
        if engine.dialect.name == "sqlite":
            configure_sqlite(opened.sync_engine)
        async with AsyncSession(opened) as session:
            ids = (
                await session.scalars(insert(Visit).returning(Visit.id), [{}, {}])
            ).all()
            key = (
                await session.execute(insert(Visit).values(size=1))
            ).inserted_primary_key
            await session.commit()
        await opened.dispose()
        return [*ids, key.id]

    ids = asyncio.run(main())

    assert sorted(int(job.record_id) for job in read_jobs(engine)) == sorted(ids)


# --- its answer ------------------------------------------------------------------------------


def test_returned_rows_are_those_that_were_asked_for(session):
    statement = insert(Visit).returning(
        Visit.size.label("id"), type_coerce(Visit.size, String)
    )

    result = session.execute(statement, [{"size": 5}, {"size": 6}])

    assert len(result.keys()) == 2
    rows = result.all()
    assert sorted(row.id for row in rows) == [5, 6]
    assert {len(row) for row in rows} == {2}


def test_returned_rows_keep_the_order_that_was_asked_for(session):
    statement = insert(Visit).returning(Visit.size, sort_by_parameter_order=True)

    assert session.scalars(statement, [{"size": n} for n in range(50)]).all() == [
        *range(50)
    ]


def test_returned_records_are_those_of_the_session(session):
    visit = session.scalars(insert(Visit).returning(Visit), [{"size": 5}]).one()

    assert visit in session
    assert session.get(Visit, visit.id) is visit


@pytest.mark.parametrize("parameters", [None, {"size": 5}, [{"size": 5}]])
def test_an_answer_without_rows_tells_the_key_and_the_count(session, parameters):
    result = (
        session.execute(insert(Visit), parameters)
        if parameters
        else session.execute(insert(Visit).values(size=5))
    )

    visit = session.scalars(select(Visit)).one()
    assert result.inserted_primary_key == (visit.id,)
    assert result.inserted_primary_key.id == visit.id
    assert (result.rowcount, result.returns_rows) == (1, False)
    with pytest.raises(ResourceClosedError):
        result.all()


def test_an_answer_counts_many_rows(session):
    result = session.execute(insert(Visit).values([{}, {"size": 2}, {}]))

    assert result.rowcount == 3
    assert len(result.inserted_primary_key_rows) == 3


# --- on conflict -----------------------------------------------------------------------------


def test_only_what_was_inserted_is_created(engine, session):
    session.execute(insert(Visit), [{"id": 1}])
    result = session.execute(
        upsert(session)(Visit).on_conflict_do_nothing(), [{"id": 1}, {"id": 2}]
    )
    session.commit()

    assert result.rowcount == 1
    assert [row.record_id for row in read_history_rows(engine)] == ["1", "2"]
    assert [job.coalesced for job in read_jobs(engine)] == [0, 0]


def test_nothing_inserted_has_no_key(session):
    session.execute(insert(Visit), [{"id": 1}])

    skipped = session.execute(
        upsert(session)(Visit).values(id=1).on_conflict_do_nothing()
    )

    assert (skipped.rowcount, skipped.inserted_primary_key) == (0, None)


def update_sizes(session):
    statement = upsert(session)(Visit)
    return statement.on_conflict_do_update(
        index_elements=["id"], set_={"size": statement.excluded.size}
    )


@pytest.mark.parametrize("returns", [False, True])
def test_on_postgresql_what_was_updated_is_told_from_what_was_created(
    postgres_url, returns
):
    with shop_engine(postgres_url, Base) as engine, Session(engine) as session:
        session.execute(insert(Visit), [{"id": 1, "size": 1}])
        session.commit()

        statement = update_sizes(session)
        result = session.execute(
            statement.returning(Visit.id, Visit.size) if returns else statement,
            [{"id": 1, "size": 10}, {"id": 2, "size": 20}],
        )
        answer = sorted(map(tuple, result)) if returns else result.rowcount
        session.commit()

        assert answer == ([(1, 10), (2, 20)] if returns else 2)
        assert dict(session.execute(select(Visit.id, Visit.size)).all()) == {
            1: 10,
            2: 20,
        }
        assert [row.record_id for row in read_history_rows(engine)] == ["1", "2"]
        assert [job.coalesced for job in read_jobs(engine)] == [0, 0]


def test_what_only_a_record_leaves_may_be_updated_anywhere(engine, session):
    statement = upsert(session)(Plain).on_conflict_do_update(
        index_elements=["id"], set_={"size": 9}
    )
    session.execute(statement, [{"id": 1}, {"id": 2}])
    session.execute(statement, [{"id": 2}])
    session.commit()

    assert sorted(session.scalars(select(Plain.size))) == [1, 9]


def test_creation_is_dated_by_the_clock_of_the_session(engine, session):
    session.info[CLOCK].advance(hours=1)
    session.execute(insert(Visit), [{}])
    session.commit()

    assert session.scalars(select(Visit.state_changed_at)).one() == AT + timedelta(
        hours=1
    )


def test_the_history_of_what_an_action_inserts_names_its_job(engine, session):
    session.info[JOB] = (7, 2)
    session.execute(insert(Visit), [{}])
    session.commit()

    assert [(row.job_id, row.attempt) for row in read_history_rows(engine)] == [(7, 2)]
