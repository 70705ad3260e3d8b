"""Resources on which one action moves the record, and another leaves it where it is."""

from collections.abc import Sequence
from contextlib import contextmanager
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


class ReportState(StrEnum):
    DRAFT = "draft"
    QUEUED = "queued"
    RENDERING = "rendering"
    RENDERED = "rendered"
    FAILED = "failed"
    DROPPED = "dropped"


S = ReportState


def _nothing(*_args):
    """What an action does when the test does not care."""


script = SimpleNamespace()
"""What the actions do: `script.notify = lambda report, ctx: …`; `reset_script()` forgets it."""


def reset_script():
    """Let every action do nothing."""
    script.render = script.notify = _nothing


reset_script()

PASSED = [S.QUEUED, S.RENDERING, S.RENDERED, S.FAILED]


class Report(StatefulResource, Base):
    """An abstract report: rendered, and told of in the form that its kind has."""

    __abstract__ = True

    id: Mapped[int] = mapped_column(primary_key=True)
    told: Mapped[str | None]
    pages: Mapped[int] = mapped_column(default=0)

    render = Trigger.on_demand("{resource}.render", max_attempts=2)
    notify = Trigger.on_demand("{resource}.notify", max_attempts=2, queue="mails")

    state: Mapped[ReportState] = state_column(
        ReportState, initial=S.DRAFT, final=(S.RENDERED, S.DROPPED)
    )

    def may_tell(self) -> bool:
        """Nobody wants to know."""
        return self.pages >= 0

    @transition([S.DRAFT, S.FAILED], S.QUEUED, run_trigger=[render, notify])
    def submit(self) -> None: ...

    @render.action(S.QUEUED, S.RENDERED, during=S.RENDERING, failed=S.FAILED)
    def do_render(self, ctx: JobContext) -> None:
        script.render(self, ctx)

    @transition([S.QUEUED, S.FAILED], S.DROPPED)
    def drop(self) -> None: ...


class Plain(Report):
    """Told of by a `def` action."""

    __tablename__ = "plain"

    @Report.notify.action(PASSED, guard=Report.may_tell)
    def do_notify(self, ctx: JobContext) -> None:
        script.notify(self, ctx)


class Awaited(Report):
    """Told of by an `async def` action."""

    __tablename__ = "awaited"

    @Report.notify.action(PASSED, guard=Report.may_tell)
    async def do_notify(self, ctx: AsyncJobContext) -> None:
        script.notify(self, ctx)


class Atomic(Report):
    """Told of in the transaction that ends the job; many share one."""

    __tablename__ = "atomic"

    @Report.notify.action(PASSED, guard=Report.may_tell, atomic=True)
    def do_notify(self, ctx: JobContext) -> None:
        script.notify(self, ctx)


class Sheet(StatefulResource, Base):
    """Many are told of in one call."""

    __tablename__ = "sheet"

    id: Mapped[int] = mapped_column(primary_key=True)
    told: Mapped[str | None]
    pages: Mapped[int] = mapped_column(default=0)

    render = Trigger.on_demand("sheet.render", max_attempts=2)
    notify = Trigger.on_demand("sheet.notify", max_attempts=2, queue="mails", chunk=10)

    state: Mapped[ReportState] = state_column(
        ReportState, initial=S.DRAFT, final=(S.RENDERED, S.DROPPED)
    )

    def may_tell(self) -> bool:
        """Nobody wants to know."""
        return self.pages >= 0

    @transition([S.DRAFT, S.FAILED], S.QUEUED, run_trigger=[render, notify])
    def submit(self) -> None: ...

    @render.action(S.QUEUED, S.RENDERED, during=S.RENDERING, failed=S.FAILED)
    def do_render(self, ctx: JobContext) -> None:
        script.render(self, ctx)

    @notify.action(PASSED, guard=may_tell)
    @staticmethod
    def do_notify(sheets: "Sequence[Sheet]", ctx: ChunkContext) -> None:
        for sheet in sheets:
            script.notify(sheet, ctx)

    @transition([S.QUEUED, S.FAILED], S.DROPPED)
    def drop(self) -> None: ...


FORMS = (Plain, Awaited, Atomic, Sheet)


@contextmanager
def office(url, *, sources=None, **options):
    """An app on *url*; at the end record, job and history must agree."""
    app = StateJobs(
        url,
        domains=[Domain("office", resources=FORMS)],
        queues={"default": 10, "mails": 10},
        sources=sources or manual_sources(ManualClock()),
        **options,
    )
    try:
        app.create_all()
        yield app
        assert contradictions(app, kinds=FORMS) == []
    finally:
        close_app(app)
