"""Who acts, and for whom, stays with its own job, its own task and its own thread."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from enum import StrEnum
from threading import Barrier, Event

import pytest
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    AsyncJobContext,
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    Trigger,
    acting_as,
    state_column,
    tenant,
    transition,
)
from statejobs.record.ledger import pending_steps
from tests.support.processes import eventually
from tests.support.shop import read_history_rows, shop_engine

MANY = 200


class Base(DeclarativeBase): ...


class S(StrEnum):
    OPEN = "open"
    PACKED = "packed"
    DONE = "done"


class Box(StatefulResource, Base):
    __tablename__ = "leak_boxes"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]
    pack = Trigger.on_demand("leak.pack", queue="threads")
    ship = Trigger.on_demand("leak.ship", queue="loop")
    state: Mapped[S] = state_column(S, initial=S.OPEN)

    @transition(S.OPEN, S.PACKED)
    def close(self) -> None: ...

    @pack.action(S.OPEN, S.DONE)
    def run_pack(self, ctx: JobContext) -> None:
        other = Box(number=self.number)
        ctx.session.add(other)
        Event().wait(0.001 * (self.number % 7))
        other.close()
        with acting_as(f"helper:{self.number}"):
            Event().wait(0.001 * (self.number % 3))
            ctx.session.add(Box(number=self.number))

    @ship.action(S.OPEN, S.DONE)
    async def run_ship(self, ctx: AsyncJobContext) -> None:
        other = Box(number=self.number)
        ctx.session.add(other)
        await asyncio.sleep(0.001 * (self.number % 7))
        other.close()
        with acting_as(f"helper:{self.number}"):
            await asyncio.sleep(0.001 * (self.number % 3))
            ctx.session.add(Box(number=self.number))


def name_of(number):
    return f"user:{number}" if number % 5 else None


@pytest.fixture
def app(database_url):
    with (
        shop_engine(database_url, Base) as engine,
        StateJobs(
            engine,
            domains=[Domain("leaks", resources=[Box])],
            queues={"threads": 8, "loop": 8},
        ) as opened,
    ):
        yield opened


def enqueue(session, number):
    """Commit a box, its number and its job: of somebody, or of nobody."""
    action = Box.run_pack if number < MANY else Box.run_ship
    with ExitStack() as names:
        if (who := name_of(number)) is not None:
            names.enter_context(acting_as(who))
            names.enter_context(tenant(f"org:{number}"))
        box = Box(number=number)
        session.add(box)
        action.enqueue(session, box)


def test_every_row_of_history_names_those_of_its_own_job(app):
    numbers = range(2 * MANY)
    with app.session() as session:
        for number in numbers:
            enqueue(session, number)
        session.commit()

    with app.running(), acting_as("whoever runs it"):
        eventually(lambda: app.select(state="completed").count() == 2 * MANY)

    with app.session() as session:
        of_record = {str(box.id): box.number for box in session.query(Box)}
    rows = read_history_rows(app.engine)
    assert len(rows) == 2 * MANY * 5
    for row in rows:
        number = of_record[row.record_id]
        who = name_of(number)
        names = {who}
        if row.name == "create" and row.job_id is not None:
            names.add(f"helper:{number}")
        assert row.actor in names
        assert row.tenant == (None if who is None else f"org:{number}")


def test_each_thread_and_each_task_of_a_program_has_its_own():
    meet = Barrier(MANY)

    def in_thread(number):
        with acting_as(f"user:{number}"), tenant(f"org:{number}"):
            meet.wait(60)
            box = Box(number=number)
            meet.wait(60)
            box.close()
        return box

    async def in_task(number, barrier):
        with acting_as(f"user:{number}"), tenant(f"org:{number}"):
            await barrier.wait()
            box = Box(number=number)
            await barrier.wait()
            box.close()
        return box

    async def tasks():
        barrier = asyncio.Barrier(MANY)
        return await asyncio.gather(*(in_task(n, barrier) for n in range(MANY)))

    with ThreadPoolExecutor(MANY) as pool:
        boxes = [*pool.map(in_thread, range(MANY)), *asyncio.run(tasks())]

    for box in boxes:
        expected = (f"user:{box.number}", f"org:{box.number}")
        assert [s.acting[:2] for s in pending_steps(box)] == [expected] * 2
