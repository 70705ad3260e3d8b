"""A resource whose action takes many records in one call, and does what a test says."""

from collections.abc import Sequence
from contextlib import contextmanager
from datetime import timedelta
from enum import StrEnum
from types import SimpleNamespace

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
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

SIZE = 4
BACKOFF = timedelta(seconds=20)


class Base(DeclarativeBase):
    """The user's base."""


class MeterState(StrEnum):
    OPEN = "open"
    SENDING = "sending"
    READ = "read"
    BROKEN = "broken"


S = MeterState

script = SimpleNamespace()
"""What the actions do, and the calls that were made; `reset_script()` forgets both."""


def reset_script():
    """Let every call do nothing."""
    script.read = lambda _meters, _ctx: None
    script.may_read = lambda _meter: True
    script.calls = []


reset_script()


class Meter(StatefulResource, Base):
    """Read many at a time."""

    __tablename__ = "meters"

    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int] = mapped_column(default=0)
    state: Mapped[MeterState] = state_column(
        MeterState, initial=S.OPEN, final=(S.READ,)
    )

    read = Trigger.on_demand("meter.read", chunk=SIZE, max_attempts=2, backoff=BACKOFF)
    check = Trigger.on_demand("meter.check")

    def may_read(self) -> bool:
        """The door is locked."""
        return script.may_read(self)

    @read.action(S.OPEN, S.READ, during=S.SENDING, failed=S.BROKEN, guard=may_read)
    @staticmethod
    def read_all(meters: Sequence["Meter"], ctx: ChunkContext) -> None:
        script.calls.append([meter.id for meter in meters])
        script.read(meters, ctx)

    @check.action(S.OPEN, S.OPEN)
    def look_at(self, ctx: JobContext) -> None:
        script.calls.append(self.id)

    @transition([S.OPEN, S.SENDING], S.BROKEN)
    def smash(self) -> None:
        """Even while it is read."""

    @transition(S.BROKEN, S.OPEN)
    def mend(self) -> None: ...


class Note(Base):
    """What an action writes beside the records."""

    __tablename__ = "meter_notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    meter_id: Mapped[int] = mapped_column(ForeignKey("meters.id"))
    text: Mapped[str] = mapped_column(String(50))


@contextmanager
def meter_office(url, clock=None, **options):
    """An app on *url*; at the end record, job and history must agree."""
    options.setdefault("settings", WorkerSettings(timeout_grace=timedelta(seconds=0.2)))
    app = StateJobs(
        url,
        domains=[Domain("town", resources=[Meter])],
        sources=manual_sources(clock or ManualClock()),
        **options,
    )
    try:
        app.create_all()
        yield app
        assert contradictions(app, kinds=(Meter,)) == []
    finally:
        close_app(app)
