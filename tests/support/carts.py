"""A cart, which holds lines and takes them along when it goes; each line is a resource."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from statejobs import JobContext, StatefulResource, Trigger, state_column, transition
from tests.resource.support import Step


class Base(DeclarativeBase):
    """The user's base."""


class Cart(Base):
    __tablename__ = "carts"

    id: Mapped[int] = mapped_column(primary_key=True)
    lines: Mapped[list["Line"]] = relationship(cascade="all, delete-orphan")


class Line(StatefulResource, Base):
    """Has a key of two columns; is packed from wherever it waits."""

    __tablename__ = "lines"

    id: Mapped[int] = mapped_column(primary_key=True)
    part: Mapped[str] = mapped_column(primary_key=True)
    cart_id: Mapped[int | None] = mapped_column(ForeignKey("carts.id"))
    state: Mapped[Step] = state_column(Step, initial=Step.NEW)

    pack = Trigger.on_demand("line.pack")

    def __init__(self, *, part: str = "a", **values: object) -> None:
        super().__init__(part=part, **values)

    @transition(Step.NEW, Step.QUEUED, run_trigger=pack)
    def submit(self, why: str = "") -> None: ...

    @pack.action([Step.NEW, Step.QUEUED], Step.DONE)
    def run(self, ctx: JobContext) -> None: ...

    @transition(Step.QUEUED, Step.DONE)
    def finish(self) -> None: ...


def key_text(number):
    """The key of a line as jobs and history have it."""
    return f'[{number},"a"]'
