"""A dry run of a bulk transition counts what it would do, and does nothing."""

import asyncio

import pytest
from sqlalchemy import insert, text, true
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from statejobs import (
    BulkDryRun,
    BulkError,
    JobContext,
    StatefulResource,
    Trigger,
    WrongValueError,
    acting_as,
    configure_sqlite,
    guard,
    state_column,
    transition,
)
from statejobs.record.ledger import CLOCK
from statejobs.store.engines.factory import async_url
from tests.resource.support import Step, statements_on
from tests.resource.test_bulk import EARLIER_JOBS, new_job, new_mails
from tests.support.mails import Base as MailBase
from tests.support.mails import Mail
from tests.support.plans import accesses, recording
from tests.support.shop import StoppedClock, read_history_rows, read_jobs, shop_engine


class Base(DeclarativeBase): ...


class Pack(StatefulResource, Base):
    """Asked for two conditions, and for who acts; runs two triggers."""

    __tablename__ = "packs"

    id: Mapped[int] = mapped_column(primary_key=True)
    weight: Mapped[int | None]
    owner: Mapped[str] = mapped_column(default="ann")
    state: Mapped[Step] = state_column(Step, initial=Step.NEW)

    send = Trigger.on_demand("pack.send", args=lambda pack: {"weight": pack.weight})

    @guard(sql=lambda pack: pack.weight > 0)
    def has_content(self) -> bool:
        """It is empty."""
        return (self.weight or 0) > 0

    @guard(sql=lambda pack: pack.weight < 50)
    def is_light(self) -> bool:
        """It is heavy."""
        return (self.weight or 0) < 50

    @guard(sql=lambda pack, actor: pack.owner == actor)
    def is_owner(self, actor: str | None) -> bool:
        """It is somebody else's."""
        return self.owner == actor

    @transition(
        Step.NEW,
        Step.QUEUED,
        guard=[has_content, is_light],
        allow=is_owner,
        run_trigger=send,
    )
    def post(self) -> None: ...

    @transition(Step.NEW, Step.OLD)
    def note(self) -> None:
        self.weight = 3

    @send.action(Step.QUEUED, Step.DONE)
    def deliver(self, ctx: JobContext, weight: int) -> None: ...


@pytest.fixture
def engine(database_url):
    with shop_engine(database_url, Base) as opened:
        yield opened


@pytest.fixture
def session(engine):
    with Session(engine, info={CLOCK: StoppedClock()}) as opened:
        yield opened


def new_packs(session, *weights, **values):
    session.add_all([Pack(weight=weight, **values) for weight in weights])
    session.commit()


def test_it_counts_what_each_guard_refuses(session):
    new_packs(session, 1, 0, 50, 60, None)
    new_packs(session, 2, -1, owner="bob")

    with acting_as("ann"):
        found = Pack.post.bulk(session, where=true(), dry_run=True)

    assert found == BulkDryRun(
        moved=1,
        refused={"is_owner": 2, "has_content": 3, "is_light": 3},
        enqueued={"pack.send": {"inserted": 1}},
    )


def test_only_records_in_a_source_that_match_are_counted(session):
    new_packs(session, 0, 0, 5)

    with acting_as("ann"):
        Pack.post.bulk(session, where=true())
        found = Pack.post.bulk(session, where=Pack.id > 1, dry_run=True)

    assert (found.moved, found.refused["has_content"]) == (0, 1)


def test_a_limit_bounds_what_would_move(session):
    new_packs(session, 1, 2, 3, 0)

    with acting_as("ann"):
        found = Pack.post.bulk(session, where=true(), limit=2, dry_run=True)

    assert (found.moved, found.refused["has_content"]) == (2, 1)
    assert found.enqueued == {"pack.send": {"inserted": 2}}


def test_it_writes_nothing_and_takes_one_select(engine, session):
    new_packs(session, 1, 2)

    with acting_as("ann"), statements_on(engine) as count:
        Pack.post.bulk(session, where=true(), dry_run=True)
        assert (count("SELECT"), count("INSERT"), count("UPDATE")) == (1, 0, 0)
    session.commit()

    assert read_jobs(engine) == []
    assert [row.name for row in read_history_rows(engine)] == ["create", "create"]


def test_it_looks_up_each_job_by_its_key(engine, session):
    many = [{"id": n, "weight": 1} for n in range(1, 3_001)]
    session.execute(insert(Pack), many)
    with acting_as("ann"):
        Pack.post.bulk(session, where=Pack.id <= 2_000)
        session.commit()
    with engine.connect() as connection:
        connection.execute(text("ANALYZE"))
        connection.commit()

    with recording("statejobs_jobs") as seen, acting_as("ann"):
        Pack.post.bulk(session, where=Pack.id > 2_990, dry_run=True)

    ways = [a for a in accesses(engine, seen) if a.table == "statejobs_jobs"]
    assert ways != []
    assert all("dedupe" in str(way.index) and way.is_bounded for way in ways), ways


def test_what_bulk_refuses_it_refuses(session):
    with pytest.raises(BulkError, match="its body is Python code"):
        Pack.note.bulk(session, where=true(), dry_run=True)


def test_it_is_a_bool(session):
    with pytest.raises(WrongValueError) as refused:
        Pack.post.bulk(session, where=true(), dry_run="yes")

    message = "post.bulk(dry_run=…) must be a bool, not 'yes'; say dry_run=True"
    assert str(refused.value) == message


def test_it_foretells_what_becomes_of_the_jobs_that_there_are(database_url):
    with shop_engine(database_url, MailBase) as engine:
        for earlier in EARLIER_JOBS:
            (mail_id,) = new_mails(engine, 1)
            if earlier:
                new_job(engine, mail_id, **earlier)
        new_mails(engine, 1, size=0)
        with Session(engine, info={CLOCK: StoppedClock()}) as session:
            foretold = Mail.post.bulk(session, where=true(), dry_run=True)
            done = Mail.post.bulk(session, where=true())

    names = ("inserted", "coalesced", "run_again", "retried")
    counts = {name: getattr(done, name) for name in names if getattr(done, name)}
    assert foretold.enqueued == {"mail.send": counts}
    assert (foretold.moved, foretold.refused) == (done.moved, {"has_content": 1})


def test_through_an_async_session(engine, session):
    new_packs(session, 1, 0)

    async def count():
        opened = create_async_engine(async_url(engine))
        if engine.dialect.name == "sqlite":
            configure_sqlite(opened.sync_engine)
        async with AsyncSession(opened) as asking:
            with acting_as("ann"):
                found = await Pack.post.bulk_async(asking, where=true(), dry_run=True)
        await opened.dispose()
        return found

    assert asyncio.run(count()).moved == 1
