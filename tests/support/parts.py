"""Resources whose actions run the next trigger where they land."""

from collections.abc import Sequence
from contextlib import contextmanager
from datetime import timedelta
from enum import StrEnum
from types import SimpleNamespace

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    AsyncJobContext,
    ChunkContext,
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    Trigger,
    state_column,
    transition,
)
from tests.support.clock import ManualClock, manual_sources
from tests.support.parcels import close_app, contradictions


class Base(DeclarativeBase):
    """The user's base."""


class PartState(StrEnum):
    NEW = "new"
    CUTTING = "cutting"
    CUT = "cut"
    PAINTING = "painting"
    PAINTED = "painted"
    BROKEN = "broken"


S = PartState


def _nothing(*_args):
    """What an action does when the test does not care."""


async def _nothing_async(*_args):
    """As `_nothing`, for asyncio."""


script = SimpleNamespace()
"""What the actions do: `script.cut = lambda part, ctx: …`; `reset_script()` forgets it."""


def reset_script():
    """Let every action do nothing."""
    script.cut = script.paint = _nothing
    script.cut_async = _nothing_async
    script.args = lambda _part: {}


reset_script()


class Columns:
    """What each kind of part has, whatever the form of its first action."""

    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str | None]
    coats: Mapped[int] = mapped_column(default=0)


def _args(part):
    return script.args(part)


class Part(Columns, StatefulResource, Base):
    """An abstract part: it is cut in the form that its kind has, and painted next."""

    __abstract__ = True

    cut = Trigger.on_demand("{resource}.cut", max_attempts=2)
    paint = Trigger.on_demand(
        "{resource}.paint", aliases=["{resource}.dye"], queue="paint", args=_args
    )
    inspect = Trigger.on_demand("{resource}.inspect")

    state: Mapped[PartState] = state_column(PartState, initial=S.NEW)

    @transition([S.NEW, S.BROKEN], S.NEW, run_trigger=cut)
    def order(self) -> None: ...

    @paint.action(S.CUT, S.PAINTED, during=S.PAINTING, failed=S.BROKEN)
    def do_paint(self, ctx: JobContext, coats: int = 1) -> None:
        script.paint(self, ctx)
        self.coats += coats

    @inspect.action(S.CUT, S.BROKEN)
    def do_inspect(self, ctx: JobContext) -> None: ...

    @transition([S.NEW, S.CUT], S.BROKEN)
    def scrap(self) -> None: ...


NEXT = [Part.paint, Part.inspect.after(days=1)]


class Plain(Part):
    """Cut by a `def` action."""

    __tablename__ = "plain"

    @Part.cut.action(S.NEW, S.CUT, during=S.CUTTING, failed=S.BROKEN, run_trigger=NEXT)
    def do_cut(self, ctx: JobContext) -> None:
        script.cut(self, ctx)


class Resting(Part):
    """Cut where it is."""

    __tablename__ = "resting"

    @Part.cut.action(S.NEW, S.CUT, failed=S.BROKEN, run_trigger=NEXT)
    def do_cut(self, ctx: JobContext) -> None:
        script.cut(self, ctx)


class Awaited(Part):
    """Cut by an `async def` action."""

    __tablename__ = "awaited"

    @Part.cut.action(S.NEW, S.CUT, during=S.CUTTING, failed=S.BROKEN, run_trigger=NEXT)
    async def do_cut(self, ctx: AsyncJobContext) -> None:
        await script.cut_async(self, ctx)
        script.cut(self, ctx)


class Atomic(Part):
    """Cut in the transaction of its end; many share one."""

    __tablename__ = "atomic"

    @Part.cut.action(
        S.NEW,
        S.CUT,
        during=S.CUTTING,
        failed=S.BROKEN,
        run_trigger=NEXT,
        atomic=True,
    )
    def do_cut(self, ctx: JobContext) -> None:
        script.cut(self, ctx)


class Sheet(Columns, StatefulResource, Base):
    """Many are cut in one call."""

    __tablename__ = "sheet"

    cut = Trigger.on_demand("sheet.cut", chunk=10, max_attempts=2)
    paint = Trigger.on_demand(
        "sheet.paint", aliases=["sheet.dye"], queue="paint", args=_args
    )
    inspect = Trigger.on_demand("sheet.inspect")

    state: Mapped[PartState] = state_column(PartState, initial=S.NEW)

    @transition([S.NEW, S.BROKEN], S.NEW, run_trigger=cut)
    def order(self) -> None: ...

    @cut.action(
        S.NEW,
        S.CUT,
        during=S.CUTTING,
        failed=S.BROKEN,
        run_trigger=[paint, inspect.after(days=1)],
    )
    @staticmethod
    def do_cut(sheets: "Sequence[Sheet]", ctx: ChunkContext) -> None:
        for sheet in sheets:
            script.cut(sheet, ctx)

    @paint.action(S.CUT, S.PAINTED, during=S.PAINTING, failed=S.BROKEN)
    def do_paint(self, ctx: JobContext, coats: int = 1) -> None:
        script.paint(self, ctx)
        self.coats += coats

    @inspect.action(S.CUT, S.BROKEN)
    def do_inspect(self, ctx: JobContext) -> None: ...

    @transition([S.NEW, S.CUT], S.BROKEN)
    def scrap(self) -> None: ...


FORMS = (Plain, Resting, Awaited, Atomic, Sheet)


@contextmanager
def workshop(url, *, clock=None, sources=None, **options):
    """An app on *url*; at the end record, job and history must agree."""
    app = StateJobs(
        url,
        domains=[Domain("workshop", resources=FORMS)],
        queues={"default": 10, "paint": 10},
        sources=sources or manual_sources(clock or ManualClock()),
        **options,
    )
    try:
        app.create_all()
        yield app
        assert contradictions(app, kinds=FORMS) == []
    finally:
        close_app(app)


DAY = timedelta(days=1)
