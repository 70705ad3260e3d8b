# pyright: strict
"""Honest code that is less usual. Type checkers read it, and it can be imported."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Self, assert_type

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlmodel import Field, SQLModel

from statejobs import (
    Action,
    ChunkContext,
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    Transition,
    Trigger,
    state_column,
    transition,
)


class Base(DeclarativeBase): ...


class S(StrEnum):
    DRAFT = "draft"
    QUEUED = "queued"
    DONE = "done"
    FAILED = "failed"


class Chained:
    """Of a mixin."""

    @transition(S.FAILED, S.DRAFT)
    def again(self) -> Self:
        return self


class Doc(Chained, StatefulResource, Base):
    __tablename__ = "docs"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[S] = state_column(S, initial=S.DRAFT)
    send = Trigger.on_demand("doc.send", chunk=10)
    post = Trigger.on_demand("doc.post", chunk=10)
    walk = Trigger.on_demand("doc.walk")

    @transition(S.DRAFT, S.DONE)
    def finish(self) -> Self:
        return self

    @transition(S.DRAFT, S.DONE)
    def finish_as(self, name: str, *, loud: bool = False) -> Self:
        return self

    @transition({S.DRAFT, S.DONE}, S.FAILED)
    def lose(self) -> "Doc":
        return self

    @transition(frozenset({S.DRAFT, S.DONE}), S.FAILED)
    def lose_again(self) -> None: ...

    @send.action({S.QUEUED}, S.DONE)
    @staticmethod
    def send_all(docs: list["Doc"], ctx: ChunkContext) -> None:
        docs.sort(key=lambda doc: doc.id)

    @post.action(S.QUEUED, S.DONE)
    @staticmethod
    def post_all(docs: Sequence["Doc"], ctx: ChunkContext) -> None: ...

    @walk.action(S.QUEUED, S.DONE)
    def walk_it(self, ctx: JobContext) -> str:
        return "x"

    @transition(S.DRAFT, S.DONE)
    async def arrive(self) -> Self:
        return self

    @transition(S.DRAFT, S.DONE)
    async def count(self) -> int:
        return 1

    @transition(S.DRAFT, S.DONE)
    def nothing(self, reason: str) -> None: ...

    @transition(S.DRAFT, S.DONE)
    def whatever(self) -> Any: ...

    @transition(S.DRAFT, S.DONE)
    def implied(self) -> int:
        return 1


class Caller(StatefulResource, SQLModel, table=True):
    model_config = {"ignored_types": (Trigger, Transition, Action)}

    id: int | None = Field(default=None, primary_key=True)
    name: str
    state: S = Field(default=S.DRAFT, sa_column=state_column(S, initial=S.DRAFT).column)

    welcome = Trigger.on_demand("caller.welcome")

    @welcome.action(S.DRAFT, S.DONE)
    def send_mail(self, ctx: JobContext) -> None:
        assert self.name


def make_jobs(database: str = "sqlite:///shop.db", **options: Any) -> StateJobs:
    return StateJobs(
        database, domains=[Domain("shop", resources=[Doc, Caller])], **options
    )


async def use(doc: Doc, ctx: JobContext, chunk: ChunkContext) -> None:
    assert_type(doc.finish(), Doc)
    assert_type(doc.finish_as("x", loud=True), Doc)
    assert_type(doc.lose(), Doc)
    assert_type(doc.again(), Doc)
    assert_type(doc.nothing("x"), None)
    doc.whatever().anything()
    assert_type(doc.implied(), int)
    assert_type(await doc.arrive(), Doc)
    assert_type(await doc.count(), int)
    doc.finish().finish_as("x").lose()
    Doc.send_all([doc], chunk)
    Doc.post_all((doc,), chunk)
    assert_type(doc.finish.can(), bool)
    assert_type(Doc.again.name, str)
