"""Actions that delete their record, in each form that an action can have."""

from enum import StrEnum

from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from statejobs import (
    AsyncJobContext,
    ChunkContext,
    JobContext,
    StatefulResource,
    Trigger,
    state_column,
    transition,
)
from tests.support.forms import script


class Base(DeclarativeBase):
    """The user's base."""


class S(StrEnum):
    OLD = "old"
    ERASING = "erasing"
    STUCK = "stuck"


class Common:
    """What every form has: another trigger, and a way out of the failed state."""

    id: Mapped[int] = mapped_column(primary_key=True)
    n: Mapped[int] = mapped_column(default=0)
    state: Mapped[S] = state_column(S, initial=S.OLD)
    look = Trigger.on_demand("{resource}.look")

    @look.action([S.OLD, S.ERASING], S.OLD)
    def peer(self, ctx: JobContext) -> None: ...

    @transition([S.OLD, S.ERASING, S.STUCK], S.STUCK)
    def keep(self) -> None: ...


class Plain(Common, StatefulResource, Base):
    __tablename__ = "plains"
    purge = Trigger.on_demand("plain.purge", max_attempts=2)

    lines: Mapped[list["Line"]] = relationship(cascade="all, delete-orphan")

    @purge.action(S.OLD, deletes=True, during=S.ERASING, failed=S.STUCK)
    def erase(self, ctx: JobContext) -> None:
        script.body([self], ctx.session, ctx)


class Line(Base):
    """A child, which goes with its parent by the ORM's cascade."""

    __tablename__ = "lines"
    id: Mapped[int] = mapped_column(primary_key=True)
    plain_id: Mapped[int] = mapped_column(ForeignKey("plains.id"))


class Resting(Common, StatefulResource, Base):
    __tablename__ = "restings"
    __history__ = False
    purge = Trigger.on_demand("resting.purge", max_attempts=2)

    @purge.action(S.OLD, deletes=True)
    def erase(self, ctx: JobContext) -> None:
        script.body([self], ctx.session, ctx)


class Awaited(Common, StatefulResource, Base):
    __tablename__ = "awaiteds"
    purge = Trigger.on_demand("awaited.purge", max_attempts=2)

    @purge.action(S.OLD, deletes=True, during=S.ERASING, failed=S.STUCK)
    async def erase(self, ctx: AsyncJobContext) -> None:
        await ctx.session.run_sync(lambda session: script.body([self], session, ctx))


class Chunked(Common, StatefulResource, Base):
    __tablename__ = "chunkeds"
    purge = Trigger.on_demand("chunked.purge", max_attempts=2, chunk=10)

    @purge.action(S.OLD, deletes=True, during=S.ERASING, failed=S.STUCK)
    @staticmethod
    def erase(records: list["Chunked"], ctx: ChunkContext) -> None:
        script.body(records, ctx.session, ctx)


class Atomic(Common, StatefulResource, Base):
    __tablename__ = "atomics"
    purge = Trigger.on_demand("atomic.purge", max_attempts=2)

    @purge.action(S.OLD, deletes=True, during=S.ERASING, failed=S.STUCK, atomic=True)
    def erase(self, ctx: JobContext) -> None:
        script.body([self], ctx.session, ctx)


class AwaitedAtomic(Common, StatefulResource, Base):
    __tablename__ = "awaited_atomics"
    purge = Trigger.on_demand("awaited_atomic.purge", max_attempts=2)

    @purge.action(S.OLD, deletes=True, during=S.ERASING, failed=S.STUCK, atomic=True)
    async def erase(self, ctx: AsyncJobContext) -> None:
        await ctx.session.run_sync(lambda session: script.body([self], session, ctx))


PURGES = (Plain, Resting, Awaited, Chunked, Atomic, AwaitedAtomic)
