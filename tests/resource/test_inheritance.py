"""Forms of inheritance are served, or refused when the class is made."""

from enum import StrEnum

import pytest
from sqlalchemy.ext.declarative import AbstractConcreteBase, ConcreteBase
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column
from sqlmodel import Field, SQLModel

from statejobs import (
    DefinitionError,
    Domain,
    StatefulResource,
    StateJobs,
    state_column,
    transition,
)


class S(StrEnum):
    NEW = "new"
    DONE = "done"


class Machine:
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[S] = state_column(S, initial=S.NEW)

    @transition(S.NEW, S.DONE)
    def finish(self) -> None: ...


class Named(SQLModel):
    """A base without a machine."""

    id: int | None = Field(default=None, primary_key=True)
    name: str = ""


class Served(StatefulResource, Named, table=True):
    """A resource below it."""

    __tablename__ = "sqlmodel_served"
    state: S = Field(default=S.NEW, sa_column=state_column(S, initial=S.NEW).column)


def by_mapper_args(base):
    class Root(StatefulResource, Machine, base):
        __tablename__ = "roots"

    class Below(Root):
        __tablename__ = "belows"
        __mapper_args__ = {"concrete": True}  # noqa: RUF012
        id: Mapped[int] = mapped_column(primary_key=True)


def by_declared_attr(base):
    class Root(StatefulResource, Machine, base):
        __tablename__ = "roots"

    class Below(Root):
        __tablename__ = "belows"
        id: Mapped[int] = mapped_column(primary_key=True)
        state: Mapped[S] = state_column(S, initial=S.NEW)

        @declared_attr.directive
        def __mapper_args__(cls):  # noqa: N805
            return {"concrete": True}


def by_concrete_base(base):
    class Root(StatefulResource, Machine, ConcreteBase, base):
        __tablename__ = "roots"
        __mapper_args__ = {"concrete": True, "polymorphic_identity": "root"}  # noqa: RUF012

    class Below(Root):
        __tablename__ = "belows"
        id: Mapped[int] = mapped_column(primary_key=True)
        __mapper_args__ = {"concrete": True, "polymorphic_identity": "below"}  # noqa: RUF012


@pytest.mark.parametrize(
    "declare", [by_mapper_args, by_declared_attr, by_concrete_base]
)
def test_a_concrete_subclass_is_refused(declare):
    class Base(DeclarativeBase): ...

    with pytest.raises(
        DefinitionError, match="Below: it is mapped with concrete=True"
    ) as caught:
        declare(Base)

    assert "__abstract__ = True" in caught.value.fix


def test_a_machine_above_tables_that_come_later_is_refused():
    class Base(DeclarativeBase): ...

    with pytest.raises(
        DefinitionError, match="Root: it declares a state column, and is an Abs"
    ):

        class Root(StatefulResource, Machine, AbstractConcreteBase, Base): ...


def test_a_resource_below_an_abstract_concrete_base_is_served(database_url):
    class Base(DeclarativeBase): ...

    class Root(AbstractConcreteBase, Base):
        strict_attrs = True

    class Below(StatefulResource, Machine, Root):
        __tablename__ = "belows"
        __mapper_args__ = {"concrete": True, "polymorphic_identity": "below"}  # noqa: RUF012

    with StateJobs(database_url, domains=[Domain("d", resources=[Below])]) as app:
        app.create_all()
        with app.session() as session:
            session.add(below := Below())
            session.commit()
            below.finish()
            session.commit()

        names = [row["name"] for row in app.queries.transitions("Below", "1")]
        assert sorted(names) == ["create", "finish"]


def test_a_base_of_sqlmodel_without_a_table_is_refused():
    class Root(StatefulResource, SQLModel):
        id: int | None = Field(default=None, primary_key=True)
        state: S = Field(default=S.NEW, sa_column=state_column(S, initial=S.NEW).column)

    with pytest.raises(
        DefinitionError, match="Below: its base Root declares a state"
    ) as caught:

        class Below(Root, table=True):
            __tablename__ = "sqlmodel_belows"

    assert "each class with table=True" in caught.value.fix


def test_a_base_of_sqlmodel_without_a_machine_is_served(database_url):
    with StateJobs(database_url, domains=[Domain("d", resources=[Served])]) as app:
        app.create_all()
        with app.session() as session:
            session.add(Served(name="x"))
            session.commit()

        assert [row["name"] for row in app.queries.transitions("Served", "1")] == [
            "create"
        ]
