"""Resources whose columns have the names that a test gives, in each form of action."""

from collections.abc import Sequence
from enum import StrEnum
from types import SimpleNamespace

from sqlalchemy import ForeignKey, Integer
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.sql.elements import quoted_name

from statejobs import (
    AsyncJobContext,
    ChunkContext,
    JobContext,
    StatefulResource,
    Trigger,
    state_column,
    transition,
)

RESERVED = {"metadata", "registry"}
"""Attributes that SQLAlchemy keeps to itself."""


class S(StrEnum):
    DRAFT = "draft"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    GONE = "gone"


script = SimpleNamespace(body=lambda _records, _session: None)
"""What each action does: `script.body = lambda records, session: …`."""


def kinds_with(words, *, tables=("defs", "asyncs", "chunks", "atomics")):
    """Resources in four forms, with the tables *tables* and a column for each of *words*."""

    class Base(DeclarativeBase): ...

    forms = dict(zip(tables, (_plain, _awaited, _chunked, _atomic), strict=False))
    kinds = [form(Base, table) for table, form in forms.items()]
    kinds.append(_composite(Base, f"pairs_of_{tables[0]}"))
    for kind in kinds:
        _add_columns(kind, words)
    return kinds


def words_of(kind):
    """The attributes that a kind has for its words."""
    return [
        a.key for a in kind.__mapper__.column_attrs if a.columns[0].info.get("is_word")
    ]


def _add_columns(kind, words):
    """Each attribute has the name of another one's column."""
    taken = {column.name.casefold() for column in kind.__table__.columns}
    free = [word for word in words if word.casefold() not in taken]
    for word, name in zip(free, reversed(free), strict=True):
        is_free = not (hasattr(kind, name) or name in RESERVED or name.startswith("__"))
        attribute = name if is_free else f"of_{word}"
        setattr(
            kind,
            attribute,
            mapped_column(
                quoted_name(word, quote=True), Integer, info={"is_word": True}
            ),
        )


def _plain(base, table):
    class Plain(StatefulResource, base):
        __tablename__ = table
        id: Mapped[int] = mapped_column(primary_key=True)
        state: Mapped[S] = state_column(S, initial=S.DRAFT, final=(S.GONE,))
        work = Trigger.on_demand(f"{table}.work", max_attempts=2)
        forget = Trigger.on_demand(f"{table}.forget")

        @transition([S.DRAFT, S.FAILED, S.DONE], S.QUEUED, run_trigger=work)
        def submit(self) -> None: ...

        @transition([S.DRAFT, S.QUEUED], S.GONE)
        def drop(self) -> None: ...

        @work.action(S.QUEUED, S.DONE, during=S.RUNNING, failed=S.FAILED)
        def run(self, ctx: JobContext) -> None:
            script.body([self], ctx.session)

        @forget.action(S.DONE, deletes=True)
        def erase(self, ctx: JobContext) -> None: ...

    return Plain


def _awaited(base, table):
    class Awaited(StatefulResource, base):
        __tablename__ = table
        id: Mapped[int] = mapped_column(primary_key=True)
        state: Mapped[S] = state_column(S, initial=S.DRAFT, final=(S.GONE,))
        work = Trigger.on_demand(f"{table}.work", max_attempts=2)

        @transition([S.DRAFT, S.FAILED, S.DONE], S.QUEUED, run_trigger=work)
        def submit(self) -> None: ...

        @transition([S.DRAFT, S.QUEUED], S.GONE)
        def drop(self) -> None: ...

        @work.action(S.QUEUED, S.DONE, during=S.RUNNING, failed=S.FAILED)
        async def run(self, ctx: AsyncJobContext) -> None:
            await ctx.session.run_sync(lambda session: script.body([self], session))

    return Awaited


def _chunked(base, table):
    class Chunked(StatefulResource, base):
        __tablename__ = table
        id: Mapped[int] = mapped_column(primary_key=True)
        state: Mapped[S] = state_column(S, initial=S.DRAFT, final=(S.GONE,))
        work = Trigger.on_demand(f"{table}.work", max_attempts=2, chunk=10)

        @transition([S.DRAFT, S.FAILED, S.DONE], S.QUEUED, run_trigger=work)
        def submit(self) -> None: ...

        @transition([S.DRAFT, S.QUEUED], S.GONE)
        def drop(self) -> None: ...

        @work.action(S.QUEUED, S.DONE, during=S.RUNNING, failed=S.FAILED)
        @staticmethod
        def run(records: Sequence[StatefulResource], ctx: ChunkContext) -> None:
            script.body(records, ctx.session)

    return Chunked


def _atomic(base, table):
    class Atomic(StatefulResource, base):
        __tablename__ = table
        id: Mapped[int] = mapped_column(primary_key=True)
        state: Mapped[S] = state_column(S, initial=S.DRAFT, final=(S.GONE,))
        work = Trigger.on_demand(f"{table}.work", max_attempts=2)

        @transition([S.DRAFT, S.FAILED, S.DONE], S.QUEUED, run_trigger=work)
        def submit(self) -> None: ...

        @transition([S.DRAFT, S.QUEUED], S.GONE)
        def drop(self) -> None: ...

        @work.action(S.QUEUED, S.DONE, during=S.RUNNING, failed=S.FAILED, atomic=True)
        def run(self, ctx: JobContext) -> None:
            script.body([self], ctx.session)

    return Atomic


def _composite(base, table):
    class Composite(StatefulResource, base):
        __tablename__ = table
        id: Mapped[int] = mapped_column(primary_key=True)
        part: Mapped[str] = mapped_column(primary_key=True, default="a")
        parent_id: Mapped[int | None] = mapped_column(
            "parent of it", ForeignKey(f"{table.removeprefix('pairs_of_')}.id")
        )
        state: Mapped[S] = state_column(
            S, initial=S.DRAFT, final=(S.GONE,), name="its state"
        )
        work = Trigger.on_demand(f"{table}.work", max_attempts=2)

        @transition([S.DRAFT, S.FAILED, S.DONE], S.QUEUED, run_trigger=work)
        def submit(self) -> None: ...

        @transition([S.DRAFT, S.QUEUED], S.GONE)
        def drop(self) -> None: ...

        @work.action(S.QUEUED, S.DONE, during=S.RUNNING, failed=S.FAILED)
        def run(self, ctx: JobContext) -> None:
            script.body([self], ctx.session)

    return Composite
