"""Whatever is begun, flushed, released and rolled back, records and jobs agree after a commit."""

from dataclasses import dataclass, field
from itertools import count, pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from statejobs import JobContext, StatefulResource, Trigger, state_column, transition
from tests.resource.support import Step
from tests.support.shop import read_history_rows, read_jobs, shop_engine

RECORDS = range(3)
FRESH = count(1)
WAITING = {"scheduled", "queued", "failed"}


class Base(DeclarativeBase): ...


class Item(StatefulResource, Base):
    __tablename__ = "items"

    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[Step] = state_column(Step, initial=Step.NEW, final=[Step.OLD])

    work = Trigger.on_demand("item.work")

    @transition(Step.NEW, Step.QUEUED, run_trigger=work)
    def queue(self) -> None: ...

    @transition(Step.QUEUED, Step.NEW)
    def take_back(self) -> None: ...

    @transition([Step.NEW, Step.QUEUED], Step.OLD)
    def drop(self) -> None: ...

    @work.action(Step.QUEUED, Step.DONE)
    def do_it(self, ctx: JobContext) -> None: ...


# --- what may happen -------------------------------------------------------------------------


@dataclass
class Add:
    record: int


@dataclass
class Fire:
    record: int
    transition: str


@dataclass
class Flush:
    pass


@dataclass
class Savepoint:
    inside: list
    is_kept: bool


@dataclass
class Transaction:
    inside: list
    is_kept: bool


which = st.sampled_from(RECORDS)
leaf = (
    st.builds(Add, which)
    | st.builds(Fire, which, st.sampled_from(["queue", "queue", "take_back", "drop"]))
    | st.builds(Flush)
)
tree = st.recursive(
    leaf,
    lambda inner: st.builds(Savepoint, st.lists(inner, max_size=5), st.booleans()),
    max_leaves=20,
)
story = st.lists(
    st.builds(Transaction, st.lists(tree, max_size=8), st.booleans()),
    min_size=1,
    max_size=4,
)


# --- what should come of it ------------------------------------------------------------------

LEADS_TO = {
    ("queue", "new"): "queued",
    ("take_back", "queued"): "new",
    ("drop", "new"): "old",
    ("drop", "queued"): "old",
}


@dataclass
class Model:
    """The records as a person would keep them on paper."""

    states: dict = field(default_factory=lambda: dict.fromkeys(RECORDS, "new"))
    added: set = field(default_factory=set)

    def fire(self, record, name):
        self.states[record] = LEADS_TO[name, self.states[record]]

    def snapshot(self):
        return dict(self.states), set(self.added)

    def restore(self, snapshot):
        """A record that was added since is out again, as it is; the others are as they were."""
        states, added = snapshot
        self.states.update({record: states[record] for record in added})
        self.added = added


class Run:
    """Plays a story on a session and on the model."""

    def __init__(self, session):
        self.session, self.model = session, Model()
        self.items = [Item(id=next(FRESH)) for _ in RECORDS]

    def play(self, steps):
        for step in steps:
            match step:
                case Add(record):
                    self.session.add(self.items[record])
                    self.model.added.add(record)
                case Fire(record, name) if (
                    name,
                    self.model.states[record],
                ) in LEADS_TO:
                    getattr(self.items[record], name)()
                    self.model.fire(record, name)
                case Savepoint() | Transaction():
                    self.attempt(step)
                case Flush():
                    self.session.flush()

    def attempt(self, step):
        is_inner = isinstance(step, Savepoint)
        before = self.model.snapshot()
        block = self.session.begin_nested() if is_inner else self.session
        self.play(step.inside)
        if step.is_kept:
            block.commit()
            return
        block.rollback()
        self.model.restore(before)
        for (
            record
        ) in self.model.added:  # SQLAlchemy cannot insert again what is expired
            assert self.items[record].state == self.model.states[record]

    def check(self, engine):
        ids = {str(item.id) for item in self.items}
        jobs = [job for job in read_jobs(engine) if job.record_id in ids]
        stored = {self.items[r].id: self.model.states[r] for r in self.model.added}
        with Session(engine) as other:
            rows = other.query(Item).where(Item.id.in_(i.id for i in self.items)).all()
            assert {row.id: row.state.value for row in rows} == stored
            for row in rows:
                check_history(read_history_rows(engine, row.id), row)
        waiting = sorted(int(job.record_id) for job in jobs if job.state in WAITING)
        assert waiting == sorted(
            id_ for id_, state in stored.items() if state == "queued"
        )
        assert {int(job.record_id) for job in jobs} <= set(stored)


def check_history(rows, item):
    """History is a chain from creation to the present state, and its length is the version."""
    assert (rows[0].name, rows[0].source) == ("create", None)
    assert all(after.source == before.target for before, after in pairwise(rows))
    assert rows[-1].target == item.state.value
    assert [row.version for row in rows] == list(range(item.state_version + 1))


@pytest.mark.timeout(300)
def test_records_history_and_jobs_agree_after_every_commit(database_url):
    with shop_engine(database_url, Base) as engine:

        @settings(
            max_examples=100 if engine.dialect.name == "sqlite" else 30,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(story)
        def holds(transactions):
            with Session(engine) as session:
                run = Run(session)
                for step in transactions:
                    run.play([step])
                    run.check(engine)

        holds()
