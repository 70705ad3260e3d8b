"""A resource whose moves run several triggers."""

from enum import StrEnum

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import JobContext, StatefulResource, Trigger, state_column, transition


class Base(DeclarativeBase):
    """The user's base."""


class FlyerState(StrEnum):
    DRAFT = "draft"
    READY = "ready"
    GONE = "gone"


S = FlyerState


class Flyer(StatefulResource, Base):
    """Creation runs two triggers, and so does a transition; their jobs rest where they start."""

    __tablename__ = "flyers"

    id: Mapped[int] = mapped_column(primary_key=True)
    size: Mapped[int] = mapped_column(default=1)

    scan = Trigger.on_demand("flyer.scan")
    spell = Trigger.on_demand("flyer.spell")
    index = Trigger.on_demand("flyer.index", args={"deep": True})
    notify = Trigger.on_demand("flyer.notify", aliases=["flyer.tell"], queue="mails")

    state: Mapped[FlyerState] = state_column(
        FlyerState, initial=S.DRAFT, run_trigger=[scan, spell]
    )

    @scan.action(S.DRAFT, S.DRAFT)
    def do_scan(self, ctx: JobContext) -> None: ...

    @spell.action(S.DRAFT, S.DRAFT)
    def do_spell(self, ctx: JobContext) -> None: ...

    @transition([S.DRAFT, S.GONE], S.READY, run_trigger=[index, notify])
    def publish(self) -> None: ...

    @index.action(S.READY, S.READY)
    def do_index(self, ctx: JobContext, *, deep: bool = False) -> None: ...

    @notify.action(S.READY, S.READY)
    def do_notify(self, ctx: JobContext) -> None: ...

    @transition(S.READY, S.GONE)
    def withdraw(self) -> None: ...
