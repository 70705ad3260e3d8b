"""A resource with a scheduled action of its own, which creates records."""

from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import JobContext, StatefulResource, scheduled_action, state_column


class Base(DeclarativeBase):
    """The user's base."""


class S(StrEnum):
    UP = "up"


class Pennant(StatefulResource, Base):
    """One for each day."""

    __tablename__ = "pennants"

    id: Mapped[int] = mapped_column(primary_key=True)
    day: Mapped[str]
    state: Mapped[S] = state_column(S, initial=S.UP, final=[S.UP])

    @scheduled_action("pennant.hoist", cron="@daily")
    @staticmethod
    def hoist(ctx: JobContext) -> None:
        """Hoist that of the day."""
        ctx.session.add(Pennant(day=f"{ctx.tick:%Y-%m-%d}"))


def hoisted(session):
    """The days whose pennant is up."""
    return list(session.scalars(select(Pennant.day).order_by(Pennant.id)))
