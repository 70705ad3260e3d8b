"""A resource on which several jobs work while it rests in one state."""

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
    WorkerSettings,
    state_column,
    transition,
)
from tests.support.clock import ManualClock, manual_sources
from tests.support.parcels import close_app, contradictions


class Base(DeclarativeBase):
    """The user's base."""


class LeafletState(StrEnum):
    DRAFT = "draft"
    APPROVED = "approved"
    PRINTING = "printing"
    JAMMED = "jammed"
    ARCHIVED = "archived"


S = LeafletState


def _nothing(*_args):
    """What an action does when the test does not care."""


async def _nothing_async(*_args):
    """As `_nothing`, for asyncio."""


script = SimpleNamespace()
"""What the actions do: `script.render = lambda leaflet, ctx: …`; `reset_script()` forgets it."""


def reset_script():
    """Let every action do nothing."""
    script.render = script.notify = script.sign = script.index = script.press = _nothing
    script.fetch = _nothing_async


reset_script()


class Text:
    """Columns of both kinds of leaflets."""

    id: Mapped[int] = mapped_column(primary_key=True)
    pdf: Mapped[str | None]
    told: Mapped[str | None]
    tags: Mapped[str | None]
    seen: Mapped[str | None]
    count: Mapped[int] = mapped_column(default=0)


class Leaflet(StatefulResource, Text, Base):
    """No action has a `during`: every form of them keeps the state."""

    __tablename__ = "leaflets"

    state: Mapped[LeafletState] = state_column(LeafletState, initial=S.DRAFT)

    render = Trigger.on_demand(
        "leaflet.render", max_attempts=2, backoff=timedelta(seconds=20)
    )
    notify = Trigger.on_demand("leaflet.notify", max_attempts=2)
    fetch = Trigger.on_demand("leaflet.fetch", max_attempts=2)
    sign = Trigger.on_demand("leaflet.sign", max_attempts=2)
    index = Trigger.on_demand("leaflet.index", max_attempts=2, chunk=10)

    @transition([S.DRAFT, S.ARCHIVED], S.APPROVED)
    def approve(self) -> None: ...

    @transition(S.APPROVED, S.APPROVED)
    def touch(self, told: str | None = None) -> None:
        """Stays where it is."""
        self.told = told or self.told

    @transition(S.APPROVED, S.ARCHIVED)
    def archive(self) -> None: ...

    @transition(S.ARCHIVED, S.APPROVED, run_trigger=render)
    def restore(self) -> None:
        """Back in the state of the jobs, and one more is asked for."""

    @render.action(S.APPROVED, S.APPROVED)
    def do_render(self, ctx: JobContext) -> None:
        script.render(self, ctx)

    @notify.action(S.APPROVED, S.APPROVED)
    def do_notify(self, ctx: JobContext) -> None:
        script.notify(self, ctx)

    @fetch.action(S.APPROVED, S.APPROVED)
    async def do_fetch(self, ctx: AsyncJobContext) -> None:
        await script.fetch(self, ctx)

    @sign.action(S.APPROVED, S.APPROVED, atomic=True)
    def do_sign(self, ctx: JobContext) -> None:
        script.sign(self, ctx)

    @index.action(S.APPROVED, S.APPROVED)
    @staticmethod
    def do_index(leaflets: "Sequence[Leaflet]", ctx: ChunkContext) -> None:
        script.index(leaflets, ctx)


class Poster(StatefulResource, Text, Base):
    """Printed in a state of its own, while other jobs wait for the state where it rests."""

    __tablename__ = "posters"

    state: Mapped[LeafletState] = state_column(LeafletState, initial=S.DRAFT)

    press = Trigger.on_demand(
        "poster.press", max_attempts=2, backoff=timedelta(seconds=20)
    )
    notify = Trigger.on_demand("poster.notify", max_attempts=2)
    fold = Trigger.on_demand("poster.fold", aliases=["poster.bend"], max_attempts=2)

    @transition(S.DRAFT, S.APPROVED)
    def approve(self) -> None: ...

    @transition([S.APPROVED, S.PRINTING], S.ARCHIVED)
    def archive(self) -> None: ...

    @transition(S.PRINTING, S.PRINTING)
    def watch(self) -> None:
        """Stays in the state in which its job runs."""

    @transition(S.JAMMED, S.APPROVED, run_trigger=press)
    def unjam(self) -> None: ...

    @transition([S.JAMMED, S.APPROVED], S.APPROVED)
    def approve_again(self) -> None:
        """From where it rests, and from elsewhere."""

    @press.action(S.APPROVED, S.APPROVED, during=S.PRINTING, failed=S.JAMMED)
    def do_press(self, ctx: JobContext) -> None:
        script.press(self, ctx)

    @notify.action(S.APPROVED, S.APPROVED)
    def do_notify(self, ctx: JobContext) -> None:
        script.notify(self, ctx)

    @fold.action(S.APPROVED, S.APPROVED)
    def do_fold(self, ctx: JobContext) -> None:
        script.render(self, ctx)


@contextmanager
def print_shop(url, *, clock=None, sources=None, **options):
    """An app on *url*; at the end record, job and history must agree."""
    app = StateJobs(
        url,
        domains=[Domain("print", resources=[Leaflet, Poster])],
        settings=options.pop("settings", None)
        or WorkerSettings(timeout_grace=timedelta(seconds=1)),
        sources=sources or manual_sources(clock or ManualClock()),
        **options,
    )
    try:
        app.create_all()
        yield app
        assert contradictions(app, kinds=(Leaflet, Poster)) == []
    finally:
        close_app(app)


def approved(app, kind, *actions, number=1):
    """Commit *number* approved records, each with a job of every action; return their keys."""
    with app.session() as session:
        records = [kind() for _ in range(number)]
        session.add_all(records)
        for record in records:
            record.approve()
        session.flush()
        for action in actions:
            getattr(kind, action).enqueue_many(session, records)
        session.commit()
        return [record.id for record in records]
