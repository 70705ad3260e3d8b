"""Who may fire a transition: `allow=` asks predicates of the record and of who acts."""

import asyncio
import pickle
from enum import StrEnum

import pytest
from sqlalchemy import select, true
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from statejobs import (
    BulkError,
    DefinitionError,
    Domain,
    JobContext,
    NotAllowedError,
    StatefulResource,
    StateJobs,
    TransitionRefusedError,
    Trigger,
    acting_as,
    configure_sqlite,
    guard,
    state_column,
    transition,
)
from statejobs.acting import acting_by_hand
from statejobs.store.engines.factory import async_url
from tests.resource.support import Step
from tests.support.processes import eventually
from tests.support.shop import read_history_rows, shop_engine


class Base(DeclarativeBase): ...


class S(StrEnum):
    DRAFT = "draft"
    WAITING = "waiting"
    APPROVED = "approved"
    REFUSED = "refused"


@guard(sql=lambda paper, actor: actor is not None and actor.startswith("boss:"))
def is_boss(paper, actor) -> bool:
    """Only a boss may."""
    return actor is not None and actor.startswith("boss:")


class Paper(StatefulResource, Base):
    __tablename__ = "papers"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str]
    pages: Mapped[int] = mapped_column(default=1)
    state: Mapped[S] = state_column(S, initial=S.DRAFT)
    check = Trigger.on_demand("paper.check")
    sweep = Trigger.on_demand("paper.sweep")

    @guard(sql=lambda paper, actor: paper.owner == actor)
    def is_owner(self, actor) -> bool:
        """Only its owner may."""
        return self.owner == actor

    def is_nobody(self, actor) -> bool:
        return actor is None

    def has_pages(self) -> bool:
        """It is empty."""
        return self.pages != 0

    @transition(S.DRAFT, S.WAITING, allow=is_owner, guard=has_pages)
    def submit(self) -> None: ...

    @transition(S.WAITING, S.APPROVED, allow=[is_owner, is_boss])
    def approve(self) -> None: ...

    @transition(S.WAITING, S.REFUSED, allow=is_boss)
    async def refuse(self) -> None:
        self.pages = 0

    @transition([S.DRAFT, S.WAITING], S.REFUSED, allow=is_nobody)
    def expire(self) -> None: ...

    @transition(S.DRAFT, S.DRAFT)
    def turn(self) -> None: ...

    @transition(S.DRAFT, S.WAITING, allow=is_owner)
    def turn_in(self) -> None: ...

    @transition(S.DRAFT, S.REFUSED, allow=is_boss)
    def bin(self) -> None: ...

    @sweep.action(S.DRAFT, S.REFUSED)
    def run_all(self, ctx: JobContext) -> None:
        others = Paper.id != self.id
        Paper.turn_in.bulk(ctx.session, where=others)

    @check.action(S.WAITING, S.APPROVED)
    def run_check(self, ctx: JobContext, as_person: str | None = None) -> None:
        other = Paper(owner="ada")
        ctx.session.add(other)
        if as_person is None:
            other.submit()
            return
        with acting_as(as_person):
            other.submit()


@pytest.fixture
def engine(database_url):
    with shop_engine(database_url, Base) as opened:
        yield opened


@pytest.fixture
def app(engine):
    with StateJobs(engine, domains=[Domain("office", resources=[Paper])]) as opened:
        yield opened


def test_who_may_fires_it():
    paper = Paper(owner="ada")

    with acting_as("ada"):
        paper.submit()

    assert paper.state is S.WAITING


def test_whoever_may_not_is_told_each_reason():
    paper = Paper(owner="ada")
    with acting_as("ada"):
        paper.submit()

    with acting_as("bob"), pytest.raises(NotAllowedError) as refused:
        paper.approve()

    assert refused.value.reasons == ("Only its owner may.", "Only a boss may.")
    assert str(refused.value) == (
        "Paper (new) cannot 'approve': Only its owner may. Only a boss may."
    )
    assert paper.state is S.WAITING
    assert isinstance(refused.value, TransitionRefusedError)
    assert pickle.loads(pickle.dumps(refused.value)).reasons == refused.value.reasons


def test_nobody_is_asked_as_none():
    paper = Paper(owner="ada")

    with pytest.raises(NotAllowedError):
        paper.submit()
    paper.expire()

    assert paper.state is S.REFUSED


def test_a_reason_that_nobody_wrote_names_the_permission():
    with acting_as("ada"):
        reasons = Paper(owner="ada").expire.why_not()

    assert reasons == ("permission 'is_nobody' says no.",)


def test_in_another_state_the_state_is_the_reason():
    paper = Paper(owner="ada")

    with pytest.raises(TransitionRefusedError, match="it is in 'draft'") as refused:
        paper.approve()

    assert not isinstance(refused.value, NotAllowedError)


def test_the_questions_ask_for_who_acts():
    paper = Paper(owner="ada", pages=0)

    assert paper.available_transitions() == ("expire", "turn")
    with acting_as("bob"):
        assert paper.submit.why_not() == ("Only its owner may.", "It is empty.")
        assert paper.available_transitions() == ("turn",)
    with acting_as("ada"):
        assert paper.submit.why_not() == ("It is empty.",)
        paper.pages = 1
        assert paper.submit.can()
        assert paper.available_transitions() == ("submit", "turn", "turn_in")


def test_a_refusal_offers_what_who_acts_may_do():
    with acting_as("bob"), pytest.raises(NotAllowedError) as refused:
        Paper(owner="ada").submit()

    assert refused.value.available == ("turn",)


def test_the_machine_names_permissions():
    assert Paper.__machine__.edge("approve").allow == ("is_owner", "is_boss")
    assert Paper.__machine__.edge("turn").allow == ()


def test_an_async_transition_asks_before_its_body(engine):
    async def refuse(name):
        opened = create_async_engine(async_url(engine))
        if engine.dialect.name == "sqlite":
            configure_sqlite(opened.sync_engine)
        try:
            async with AsyncSession(opened) as session:
                paper = (await session.scalars(select(Paper))).one()
                with acting_as(name):
                    await paper.refuse()
                await session.commit()
        finally:
            await opened.dispose()

    with Session(engine) as session, acting_as("ada"):
        paper = Paper(owner="ada")
        session.add(paper)
        paper.submit()
        session.commit()

    with pytest.raises(NotAllowedError, match="Only a boss may"):
        asyncio.run(refuse("ada"))
    asyncio.run(refuse("boss:1"))

    assert [row.name for row in read_history_rows(engine)][-1] == "refuse"


def waiting(app, owner="ada", **args):
    """Commit a paper that waits, and its job."""
    with app.session() as session:
        paper = Paper(owner=owner)
        session.add(paper)
        with acting_as(owner):
            paper.submit()
        with acting_as("bob"):
            Paper.run_check.enqueue(session, paper, **args)
        session.commit()


def history(engine):
    return {(row.name, row.actor) for row in read_history_rows(engine)}


def serve(app):
    with app.running():
        eventually(lambda: app.queries.job(1).state in {"completed", "failed"})


@pytest.mark.parametrize("run", [StateJobs.drain, serve])
def test_a_job_acts_as_the_system_and_is_not_asked(app, engine, run):
    waiting(app)

    run(app)

    assert ("submit", "bob") in history(engine)
    assert app.queries.job(1).state == "completed"


@pytest.mark.parametrize("run", [StateJobs.drain, serve])
def test_a_person_whom_a_job_names_is_asked(app, engine, run):
    waiting(app, as_person="bob")

    run(app)

    assert ("submit", "bob") not in history(engine)
    assert app.queries.job(1).state == "failed"


def test_who_drains_is_not_who_acts_in_a_job(app):
    waiting(app, as_person="ada")

    with acting_as("eve"):
        drained = app.drain()
        with pytest.raises(NotAllowedError):
            Paper(owner="ada").submit()

    assert drained.counts == {"complete": 1}


def test_a_command_asks_no_permission_and_is_told_of(engine):
    with Session(engine) as session, acting_by_hand("cli:root"):
        paper = Paper(owner="ada")
        session.add(paper)
        paper.submit()
        session.commit()

    assert ("submit", "cli:root") in history(engine)


# Many at once


def many(engine, *owners):
    with Session(engine) as session:
        session.add_all([Paper(owner=owner) for owner in owners])
        session.commit()


def test_bulk_leaves_those_that_who_acts_may_not_move(engine):
    many(engine, "ada", "bob", "ada")

    with Session(engine) as session, acting_as("ada"):
        papers = select(Paper.owner).where(Paper.state == S.WAITING)
        result = Paper.turn_in.bulk(session, where=true())
        assert session.scalars(papers).all() == ["ada", "ada"]

    assert result.moved == 2


@pytest.mark.parametrize(("actor", "moved"), [("boss:1", 2), ("ada", 0)])
def test_bulk_takes_a_bool_of_a_permission_that_asks_nothing_of_the_record(
    engine, actor, moved
):
    many(engine, "ada", "bob")

    with Session(engine) as session, acting_as(actor):
        assert Paper.bin.bulk(session, where=true()).moved == moved


def test_bulk_refuses_a_permission_without_an_sql_form(engine):
    with Session(engine) as session, pytest.raises(BulkError) as refused:
        Paper.expire.bulk(session, where=true())

    assert str(refused.value).splitlines() == [
        "Paper.expire.bulk: its permission 'is_nobody' has no SQL form",
        "  why: bulk asks permissions in the statement that moves the records",
        "  fix: decorate 'is_nobody' with "
        "@guard(sql=lambda order, actor: order.owner == actor), "
        "with a condition that means the same",
    ]


def test_bulk_in_a_job_asks_no_permission(app, engine):
    many(engine, "ada", "bob")
    with app.session() as session:
        paper = session.scalars(select(Paper)).first()
        Paper.run_all.enqueue(session, paper)
        session.commit()

    app.drain(raise_errors=True)

    with Session(engine) as session:
        states = session.scalars(select(Paper.state)).all()
    assert sorted(states) == [S.REFUSED, S.WAITING]


# What is refused when the class is made


def base():
    class Root(DeclarativeBase): ...

    class Keyed(Root):
        __abstract__ = True
        __tablename__ = "bills"
        id: Mapped[int] = mapped_column(primary_key=True)

    return Keyed


def refusal(allow):
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[Step] = state_column(Step, initial=Step.NEW)

            @transition(Step.NEW, Step.OLD, allow=allow)
            def pay(self): ...

    return str(refused.value).splitlines()


def is_rich(bill): ...


async def is_late(bill, actor): ...


@guard(sql=lambda bill: bill.id > 0)
def is_first(bill, actor): ...


@pytest.mark.parametrize(
    ("allow", "what", "fix"),
    [
        (
            "is_owner",
            "Bill.pay: its permission 'is_owner' is a str, which cannot be called",
            "give the function itself, declared above: allow=is_owner",
        ),
        (
            [is_rich],
            "Bill.pay: its permission 'is_rich' cannot be called: too many positional arguments",
            "def is_rich(self, actor) -> bool",
        ),
        (is_late, "Bill.pay: its permission 'is_late' is async", "make it a `def`"),
        (
            is_first,
            "Bill.pay: the SQL form of its permission 'is_first' cannot be called: "
            "too many positional arguments",
            "@guard(sql=lambda order, actor: order.owner == actor)",
        ),
    ],
)
def test_what_could_not_be_asked_is_refused(allow, what, fix):
    lines = refusal(allow)

    assert lines[0] == what
    assert lines[2] == f"  fix: {fix}"


def test_a_guard_whose_sql_asks_for_an_actor_is_refused():
    class Asks:
        @guard(sql=lambda bill, actor: bill.owner == actor)
        def is_paid(self):
            return True

    with pytest.raises(DefinitionError, match="the SQL form of its guard 'is_paid'"):

        class Bill(StatefulResource, base()):
            state: Mapped[Step] = state_column(Step, initial=Step.NEW)

            @transition(Step.NEW, Step.OLD, guard=Asks.is_paid)
            def pay(self): ...


def has_key(paper, actor) -> bool:
    return KEYS[actor] == paper.id


KEYS: dict[str, int] = {}


class Locked(StatefulResource, Base):
    __tablename__ = "locked_papers"

    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[S] = state_column(S, initial=S.DRAFT)

    @transition(S.DRAFT, S.WAITING, allow=has_key)
    def submit(self) -> None: ...

    @transition(S.DRAFT, S.REFUSED, allow=has_key)
    async def refuse(self) -> None: ...


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda paper: paper.submit(), "submit"),
        (lambda paper: paper.submit.can(), "submit"),
        (lambda paper: paper.submit.why_not(), "submit"),
        (lambda paper: paper.available_transitions(), "submit"),
        (lambda paper: asyncio.run(paper.refuse()), "refuse"),
    ],
    ids=["fired", "can", "why_not", "available", "async"],
)
def test_one_that_raises_is_named_with_its_transition_and_the_record(
    database_url, call, name
):
    with shop_engine(database_url, Base) as engine, Session(engine) as session:
        paper = Locked(id=7)
        session.add(paper)
        session.commit()

        with acting_as("ann"), pytest.raises(KeyError) as raised:
            call(paper)

        assert paper.state is S.DRAFT
    assert raised.value.__notes__ == [
        f"Locked 7: permission 'has_key' of {name!r} raised this"
    ]
