"""Any base, any key, any inheritance."""

import uuid
from typing import ClassVar

import pytest
from sqlalchemy import ForeignKey
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    mapped_column,
)
from sqlmodel import Field, SQLModel

from statejobs import (
    Domain,
    JobContext,
    ProtectedStateError,
    StatefulResource,
    TransitionRefusedError,
    Trigger,
    state_column,
    transition,
)
from statejobs.declare.action import Action
from statejobs.declare.registry import Registry
from statejobs.declare.transition import Transition
from statejobs.record.identity import decode_identity
from tests.resource.support import Step, context
from tests.support.shop import read_history_rows, read_jobs, shop_engine


class Work:
    """A machine with a trigger, as a mixin for any base."""

    perform = Trigger.on_demand("{resource}.perform")

    @transition(Step.NEW, Step.QUEUED, run_trigger=perform)
    def queue(self) -> None: ...

    @perform.action(Step.QUEUED, Step.DONE, during=Step.RUNNING, failed=Step.FAILED)
    def run(self, ctx: JobContext) -> None: ...

    @transition([Step.NEW, Step.QUEUED], Step.OLD)
    def drop(self) -> None: ...


# --- keys ------------------------------------------------------------------------------------


class Base(DeclarativeBase): ...


class ByNumber(Work, StatefulResource, Base):
    __tablename__ = "by_number"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[Step] = state_column(Step, initial=Step.NEW)


class ByText(Work, StatefulResource, Base):
    __tablename__ = "by_text"
    code: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[Step] = state_column(Step, initial=Step.NEW)


class ByUuid(Work, StatefulResource, Base):
    __tablename__ = "by_uuid"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    state: Mapped[Step] = state_column(Step, initial=Step.NEW)


class ByTwo(Work, StatefulResource, Base):
    __tablename__ = "by_two"
    shop: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[Step] = state_column(Step, initial=Step.NEW)


KEY = uuid.UUID(int=7)


@pytest.mark.parametrize(
    ("resource", "key", "record_id"),
    [
        (ByNumber, {"id": 5}, "5"),
        (ByText, {"code": 'a"é/b'}, '"a\\"é/b"'),
        (ByUuid, {"id": KEY}, f'"{KEY}"'),
        (ByTwo, {"shop": KEY, "number": 5}, f'["{KEY}",5]'),
    ],
    ids=["int", "str", "uuid", "composite"],
)
def test_any_primary_key_names_its_job_and_its_history(
    database_url, resource, key, record_id
):
    with shop_engine(database_url, Base) as engine, Session(engine) as session:
        record = resource(**key)
        session.add(record)
        session.commit()

        record.queue()
        session.commit()

        [job] = read_jobs(engine)
        assert (job.record_id, job.resource) == (record_id, resource.__name__)
        assert {row.record_id for row in read_history_rows(engine)} == {record_id}
        assert (
            session.get(resource, decode_identity(resource.__mapper__, record_id))
            is record
        )


def test_a_key_that_the_database_makes_is_known_to_the_job(database_url):
    with shop_engine(database_url, Base) as engine, Session(engine) as session:
        records = [ByNumber() for _ in range(3)]
        session.add_all(records)
        for record in records:
            record.queue()
        session.commit()

        assert [job.record_id for job in read_jobs(engine)] == [
            str(r.id) for r in records
        ]


# --- bases -----------------------------------------------------------------------------------


class DataclassBase(MappedAsDataclass, DeclarativeBase): ...


class Typed(Work, StatefulResource, DataclassBase):
    __tablename__ = "typed"
    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    title: Mapped[str]
    state: Mapped[Step] = state_column(Step, initial=Step.NEW, init=False)
    rank: Mapped[int] = mapped_column(default=0)


class Modelled(Work, StatefulResource, SQLModel, table=True):
    model_config: ClassVar = {"ignored_types": (Trigger, Transition, Action)}

    id: int | None = Field(default=None, primary_key=True)
    title: str
    state: Step = Field(
        default=Step.NEW, sa_column=state_column(Step, initial=Step.NEW).column
    )


BASES = [(Typed, DataclassBase), (Modelled, SQLModel)]


@pytest.mark.parametrize(("resource", "base"), BASES, ids=["dataclass", "sqlmodel"])
def test_other_bases_make_resources_too(database_url, resource, base):
    with shop_engine(database_url, base) as engine, Session(engine) as session:
        record = resource(title="x")
        session.add(record)
        record.queue()
        session.commit()

        assert (record.state, record.state_version) == (Step.QUEUED, 1)
        assert [job.key for job in read_jobs(engine)] == [
            f"{resource.__name__.lower()}.perform"
        ]

        record.run(context(session, record))
        session.commit()

        assert (record.state, record.state_version) == (Step.DONE, 3)


@pytest.mark.parametrize(("resource", "base"), BASES, ids=["dataclass", "sqlmodel"])
def test_other_bases_protect_the_state_too(resource, base):
    record = resource(title="x")

    with pytest.raises(ProtectedStateError):
        record.state = Step.DONE

    assert record.state is Step.NEW


# --- inheritance -----------------------------------------------------------------------------


class Family(DeclarativeBase): ...


class Parent(Work, StatefulResource, Family):
    __tablename__ = "parents"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    state: Mapped[Step] = state_column(Step, initial=Step.NEW)
    __mapper_args__: ClassVar = {
        "polymorphic_on": "kind",
        "polymorphic_identity": "parent",
    }


class Joined(Parent):
    __tablename__ = "joined"
    id: Mapped[int] = mapped_column(ForeignKey("parents.id"), primary_key=True)
    extra: Mapped[str | None]
    __mapper_args__: ClassVar = {"polymorphic_identity": "joined"}

    @transition(Step.OLD, Step.NEW)
    def revive(self) -> None: ...


class Single(Parent):
    __mapper_args__: ClassVar = {"polymorphic_identity": "single"}
    nickname: Mapped[str | None]

    thank = Trigger.on_demand("single.thank")

    def is_thanked(self) -> bool:
        """Nobody says thanks to those who are done."""
        return self.state is not Step.DONE

    @transition(Step.NEW, Step.FAILED, guard=is_thanked, run_trigger=thank)
    def fail(self) -> None: ...

    @thank.action(Step.FAILED, Step.DONE)
    def say_thanks(self, ctx: JobContext) -> None: ...


@pytest.mark.parametrize("resource", [Parent, Joined, Single])
def test_a_subclass_moves_like_its_parent(database_url, resource):
    with shop_engine(database_url, Family) as engine, Session(engine) as session:
        record = resource()
        session.add(record)
        session.commit()

        record.queue()
        session.commit()

        assert (record.state, record.state_version) == (Step.QUEUED, 1)
        [job] = read_jobs(engine)
        assert (job.key, job.resource) == ("parent.perform", "Parent")


def test_a_subclass_adds_transitions_of_its_own(database_url):
    with shop_engine(database_url, Family) as engine, Session(engine) as session:
        joined, single = Joined(), Single()
        session.add_all([joined, single])
        joined.drop()
        joined.revive()
        single.fail()
        session.commit()

        assert joined.available_transitions() == ("queue", "drop")
        assert (joined.state, single.state) == (Step.NEW, Step.FAILED)
        assert [job.key for job in read_jobs(engine)] == ["single.thank"]


def test_what_a_subclass_adds_is_not_in_its_parent():
    assert [e.name for e in Joined.__machine__.transitions] == [
        "queue",
        "drop",
        "revive",
    ]
    assert [e.name for e in Parent.__machine__.transitions] == ["queue", "drop"]


def test_a_refusal_names_the_subclass():
    with pytest.raises(
        TransitionRefusedError, match=r"^Joined \(new\) cannot 'revive'"
    ):
        Joined().revive()


def test_a_subclass_protects_its_state():
    with pytest.raises(ProtectedStateError):
        Single().state = Step.DONE
    with pytest.raises(ProtectedStateError):
        Joined(state=Step.DONE)


def test_a_registry_finds_the_triggers_of_subclasses():
    registry = Registry([Domain("family", resources=[Parent])])

    assert set(registry.triggers) == {"parent.perform", "single.thank"}


def test_records_of_a_family_move_together(database_url):
    with shop_engine(database_url, Family) as engine, Session(engine) as session:
        family = [Parent(), Joined(), Single(), Joined()]
        session.add_all(family)
        session.commit()

        for record in family:
            record.queue()
        session.commit()

        assert {record.state_version for record in family} == {1}
        assert len(read_jobs(engine)) == 4


# --- names -----------------------------------------------------------------------------------


class Named(DeclarativeBase): ...


class Invoice(StatefulResource, Named):
    __tablename__ = "invoices"
    __resource__ = "billing.Invoice"

    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[Step] = state_column(Step, initial=Step.NEW, name="stage")

    send = Trigger.on_demand("{resource}.send")

    @transition(Step.NEW, Step.QUEUED, run_trigger=send)
    def issue(self) -> None: ...

    @send.action(Step.QUEUED, Step.DONE)
    def send_mail(self, ctx: JobContext) -> None: ...


class Silent(Work, StatefulResource, Named):
    __tablename__ = "silent"
    __history__ = False

    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[Step] = state_column(Step, initial=Step.NEW)


def test_a_resource_may_choose_its_stored_name_and_its_attribute(database_url):
    with shop_engine(database_url, Named) as engine, Session(engine) as session:
        invoice = Invoice()
        session.add(invoice)
        session.commit()
        invoice.issue()
        session.commit()

        [job] = read_jobs(engine)
        assert (invoice.status, job.resource) == (Step.QUEUED, "billing.Invoice")
        assert job.key == "billing.invoice.send"
        assert {row.resource for row in read_history_rows(engine)} == {
            "billing.Invoice"
        }


def test_a_resource_may_go_without_history(database_url):
    with shop_engine(database_url, Named) as engine, Session(engine) as session:
        session.add(silent := Silent())
        silent.queue()
        session.commit()

        assert read_history_rows(engine) == []
        assert len(read_jobs(engine)) == 1


def test_a_mixin_gives_each_resource_a_key_of_its_own():
    registry = Registry([Domain("all", resources=[ByNumber, ByText, Silent])])

    assert set(registry.triggers) == {
        "bynumber.perform",
        "bytext.perform",
        "silent.perform",
    }


def test_the_database_refuses_a_state_that_is_none(database_url):
    with shop_engine(database_url, Named) as engine, Session(engine) as session:
        session.add(Silent())
        session.commit()

        with pytest.raises(Exception, match="ck_silent_state_"):
            session.connection().exec_driver_sql("UPDATE silent SET state = 'lost'")
