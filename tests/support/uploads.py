"""Resources whose action says which of several ways its record goes."""

from contextlib import contextmanager
from enum import StrEnum
from types import SimpleNamespace

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    AsyncJobContext,
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    Trigger,
    state_column,
)
from tests.support.clock import manual_sources
from tests.support.parcels import close_app, contradictions


class Base(DeclarativeBase):
    """The user's base."""


class UploadState(StrEnum):
    SUBMITTED = "submitted"
    SCANNING = "scanning"
    CLEAN = "clean"
    INFECTED = "infected"
    UNREADABLE = "unreadable"
    DONE = "done"


S = UploadState

script = SimpleNamespace()
"""`script.scan = lambda upload, ctx: …` returns the way; `reset_script()` forgets it."""


def reset_script():
    """Find every upload clean."""
    script.scan = lambda _upload, _ctx: S.CLEAN


reset_script()


class Upload(StatefulResource, Base):
    """An abstract upload, which is scanned in the form that its kind has."""

    __abstract__ = True

    id: Mapped[int] = mapped_column(primary_key=True)
    size: Mapped[int] = mapped_column(default=0)
    note: Mapped[str | None]

    scan = Trigger.on_demand("{resource}.scan", max_attempts=2)
    render = Trigger.on_demand("{resource}.render")
    alert = Trigger.on_demand("{resource}.alert")

    state: Mapped[UploadState] = state_column(
        UploadState, initial=S.SUBMITTED, run_trigger=scan
    )

    def has_size(self) -> bool:
        """It is too small."""
        return self.size >= 0

    @render.action(S.CLEAN, S.DONE)
    def do_render(self, ctx: JobContext) -> None: ...

    @alert.action(S.INFECTED, S.INFECTED)
    def do_alert(self, ctx: JobContext) -> None: ...


WAYS = {S.CLEAN: Upload.render, S.INFECTED: [Upload.alert]}


class Moved(Upload):
    """Scanned in a state of its own."""

    __tablename__ = "moved"

    @Upload.scan.action(
        S.SUBMITTED,
        (S.CLEAN, S.INFECTED),
        during=S.SCANNING,
        failed=S.UNREADABLE,
        guard=Upload.has_size,
        run_trigger=WAYS,
    )
    def do_scan(self, ctx: JobContext) -> UploadState:
        return script.scan(self, ctx)


class Resting(Upload):
    """Scanned where it is."""

    __tablename__ = "resting"

    @Upload.scan.action(
        S.SUBMITTED,
        [S.CLEAN, S.INFECTED],
        failed=S.UNREADABLE,
        guard=Upload.has_size,
        run_trigger=WAYS,
    )
    def do_scan(self, ctx: JobContext) -> UploadState:
        return script.scan(self, ctx)


class Awaited(Upload):
    """Scanned by an `async def` action."""

    __tablename__ = "awaited"

    @Upload.scan.action(
        S.SUBMITTED,
        (S.CLEAN, S.INFECTED),
        during=S.SCANNING,
        failed=S.UNREADABLE,
        guard=Upload.has_size,
        run_trigger=WAYS,
    )
    async def do_scan(self, ctx: AsyncJobContext) -> UploadState:
        return script.scan(self, ctx)


class Atomic(Upload):
    """Scanned in the transaction of its end; many share one."""

    __tablename__ = "atomic"

    @Upload.scan.action(
        S.SUBMITTED,
        (S.CLEAN, S.INFECTED),
        during=S.SCANNING,
        failed=S.UNREADABLE,
        guard=Upload.has_size,
        run_trigger=WAYS,
        atomic=True,
    )
    def do_scan(self, ctx: JobContext) -> UploadState:
        return script.scan(self, ctx)


FORMS = (Moved, Resting, Awaited, Atomic)


@contextmanager
def scanner(url, clock):
    """An app on *url*; at the end record, job and history must agree."""
    app = StateJobs(
        url,
        domains=[Domain("scanner", resources=FORMS)],
        sources=manual_sources(clock),
    )
    try:
        app.create_all()
        yield app
        assert contradictions(app, kinds=FORMS) == []
    finally:
        close_app(app)
