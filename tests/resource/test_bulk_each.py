"""Arguments that a trigger makes from its record, in bulk: the record is loaded for them."""

import pytest
from sqlalchemy import select, true
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from statejobs import (
    ArgumentsError,
    BulkResult,
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    Trigger,
    state_column,
    transition,
)
from statejobs.record.bulk import each
from statejobs.record.ledger import CLOCK
from tests.resource.support import Step, statements_on
from tests.support.shop import StoppedClock, read_history_rows, read_jobs, shop_engine

SEEN = []


class Base(DeclarativeBase): ...


def of_the_record(crate):
    SEEN.append((crate.state, crate.state_version, crate.weight))
    if crate.weight > 99:
        raise ValueError("too heavy")
    return {"weight": crate.weight} if crate.weight else {}


class Crate(StatefulResource, Base):
    __tablename__ = "crates"

    id: Mapped[int] = mapped_column(primary_key=True)
    weight: Mapped[int] = mapped_column(default=1)
    state: Mapped[Step] = state_column(Step, initial=Step.NEW)

    send = Trigger.on_demand("crate.send", args=of_the_record)

    @transition([Step.NEW, Step.QUEUED], Step.QUEUED, run_trigger=send)
    def post(self) -> None: ...

    @send.action(Step.QUEUED, Step.DONE)
    def deliver(self, ctx: JobContext, weight: int) -> None: ...


@pytest.fixture
def engine(database_url):
    SEEN.clear()
    with shop_engine(database_url, Base) as opened:
        yield opened


@pytest.fixture
def session(engine):
    with Session(engine, info={CLOCK: StoppedClock()}) as opened:
        yield opened


def new_crates(engine, *weights):
    with Session(engine) as session:
        session.add_all([Crate(weight=weight) for weight in weights])
        session.commit()


def arguments(engine):
    return {job.record_id: job.args for job in read_jobs(engine)}


def test_each_job_has_those_of_its_record(engine, session):
    new_crates(engine, 5, 7, 11)

    result = Crate.post.bulk(session, where=Crate.weight > 5)
    session.commit()

    assert result == BulkResult(moved=2, inserted=2)
    assert arguments(engine) == {"2": '{"weight":7}', "3": '{"weight":11}'}
    assert [row.name for row in read_history_rows(engine)][3:] == ["post", "post"]


def test_the_function_sees_the_record_as_it_is_since_the_move(engine, session):
    new_crates(engine, 5)
    held = session.scalars(select(Crate)).one()

    Crate.post.bulk(session, where=true(), values={"weight": Crate.weight * 2})

    assert SEEN == [(Step.QUEUED, 1, 10)]
    assert (held.state, held.weight) == (Step.QUEUED, 10)


def test_they_are_what_firing_it_on_each_record_makes(engine, session):
    new_crates(engine, *range(1, 21))
    for crate in session.scalars(select(Crate).where(Crate.id <= 10)):
        crate.post()
    session.commit()
    Crate.post.bulk(session, where=Crate.id > 10)
    session.commit()

    made = {
        name: [getattr(job, name) for job in read_jobs(engine)]
        for name in ("key", "queue", "state", "run_at", "dedupe_key", "record_id")
    }
    assert {k: len(set(v)) for k, v in made.items()} == {
        "key": 1,
        "queue": 1,
        "state": 1,
        "run_at": 1,
        "dedupe_key": 20,
        "record_id": 20,
    }
    assert [job.args for job in read_jobs(engine)] == [
        f'{{"weight":{n}}}' for n in range(1, 21)
    ]
    assert len({job.idempotency_key for job in read_jobs(engine)}) == 20


def test_a_job_that_waits_takes_the_new_ones(engine, session):
    new_crates(engine, 5)
    Crate.post.bulk(session, where=true())
    result = Crate.post.bulk(session, where=true(), values={"weight": 6})
    session.commit()

    assert result == BulkResult(moved=1, coalesced=1)
    assert arguments(engine) == {"1": '{"weight":6}'}


@pytest.mark.parametrize(
    ("weight", "error"),
    [(100, ValueError), (0, ArgumentsError)],
    ids=["raises", "lacks"],
)
def test_one_that_cannot_be_made_leaves_nothing_moved(engine, session, weight, error):
    new_crates(engine, 5, weight)

    with pytest.raises(error):
        Crate.post.bulk(session, where=true())
    session.commit()

    assert session.scalars(select(Crate.state)).all() == [Step.NEW, Step.NEW]
    assert read_jobs(engine) == []
    assert [row.name for row in read_history_rows(engine)] == ["create", "create"]


def test_many_are_loaded_with_one_query(engine, session, monkeypatch):
    monkeypatch.setattr(each, "AT_ONCE", 4)
    new_crates(engine, *range(1, 11))

    with statements_on(engine) as count:
        Crate.post.bulk(session, where=true())
        loads = count("crates.weight")

    assert loads == 3
    session.commit()
    assert len(arguments(engine)) == 10


def test_jobs_are_locked_in_the_order_of_their_records(engine, session, monkeypatch):
    monkeypatch.setattr(each, "AT_ONCE", 4)
    new_crates(engine, *range(1, 13))

    Crate.post.bulk(session, where=true())
    session.commit()

    assert [int(job.record_id) for job in read_jobs(engine)] == list(range(1, 13))


def test_the_jobs_run(engine, session):
    new_crates(engine, 1, 2)
    Crate.post.bulk(session, where=true())
    session.commit()

    app = StateJobs(engine, domains=[Domain("crates", resources=[Crate])])

    assert app.drain().counts == {"complete": 2}


def test_the_session_is_not_filled_with_what_is_loaded(engine, session):
    new_crates(engine, 1, 2)

    Crate.post.bulk(session, where=true())

    assert len(session.identity_map) == 0


def test_a_limit_loads_no_more_than_it_moves(engine, session):
    new_crates(engine, 1, 2, 3)

    assert Crate.post.bulk(session, where=true(), limit=2).moved == 2
    assert len(SEEN) == 2
