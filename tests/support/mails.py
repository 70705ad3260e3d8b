"""Resources with everything that a bulk transition meets."""

import uuid
from typing import ClassVar

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    JobContext,
    StatefulResource,
    Trigger,
    guard,
    state_column,
    transition,
)
from tests.resource.support import Step


class Base(DeclarativeBase):
    """The user's base."""


class Mail(StatefulResource, Base):
    """An action with arguments; every move that can meet a job."""

    __tablename__ = "mails"

    id: Mapped[int] = mapped_column(primary_key=True)
    size: Mapped[int] = mapped_column(default=1)
    note: Mapped[str | None]
    changes: Mapped[int] = mapped_column(default=0, onupdate=lambda: 7)
    kind: Mapped[str]
    state: Mapped[Step] = state_column(Step, initial=Step.NEW)
    __mapper_args__: ClassVar = {
        "polymorphic_on": "kind",
        "polymorphic_identity": "mail",
    }

    send = Trigger.on_demand(
        "mail.send",
        queue="mails",
        priority=4,
        max_attempts=3,
        tags=["mail"],
        args={"subject": "Hello"},
    )

    @guard(sql=lambda mail: mail.size > 0)
    def has_content(self) -> bool:
        """It is empty."""
        return self.size > 0

    @transition([Step.NEW, Step.DONE], Step.QUEUED, guard=has_content, run_trigger=send)
    def post(self) -> None: ...

    @transition([Step.QUEUED, Step.RUNNING, Step.FAILED], Step.QUEUED, run_trigger=send)
    def again(self) -> None:
        """Post it once more."""

    @transition([Step.NEW, Step.QUEUED, Step.RUNNING, Step.FAILED], Step.OLD)
    def drop(self, reason: str, *, loud: bool = False) -> None: ...

    @transition(Step.NEW, Step.OLD)
    def annotate(self) -> None:
        self.note = "written by the body"

    @send.action(Step.QUEUED, Step.DONE, during=Step.RUNNING, failed=Step.FAILED)
    def deliver(self, ctx: JobContext, subject: str) -> None: ...


class Letter(Mail):
    """A subclass with a table of its own, and a trigger of its own."""

    __tablename__ = "letters"

    id: Mapped[int] = mapped_column(ForeignKey("mails.id"), primary_key=True)
    stamp: Mapped[str] = mapped_column(default="none")
    __mapper_args__: ClassVar = {"polymorphic_identity": "letter"}

    collect = Trigger.on_demand("letter.collect")

    @collect.action(Step.FAILED, Step.FAILED)
    def fetch(self, ctx: JobContext) -> None: ...


class Fax(StatefulResource, Base):
    """Keys of three types, and no history."""

    __tablename__ = "faxes"
    __history__ = False

    number: Mapped[str] = mapped_column(String(400), primary_key=True)
    page: Mapped[int] = mapped_column(primary_key=True)
    batch: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    state: Mapped[Step] = state_column(Step, initial=Step.NEW)

    send = Trigger.on_demand("fax.send")

    @transition(Step.NEW, Step.QUEUED, run_trigger=send)
    async def post(self) -> None:
        """Send it."""

    @send.action(Step.QUEUED, Step.DONE)
    def deliver(self, ctx: JobContext) -> None: ...
