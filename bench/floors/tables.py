"""Tables of the floors: the columns of statejobs that the same work needs, and no more."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    Column,
    Float,
    Index,
    Integer,
    SmallInteger,
    String,
    Table,
    Text,
    create_engine,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from bench.records import QUEUE, OrderColumns
from statejobs.store.types import BigId, UtcDateTime


class Base(DeclarativeBase):
    """Base of the floors' models."""


class FloorOrder(OrderColumns, Base):
    """The order that every floor works on."""

    __tablename__ = "floor_orders"

    state: Mapped[str] = mapped_column(String(20))
    state_version: Mapped[int] = mapped_column(server_default="0", default=0)
    state_changed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class FloorJob(Base):
    """A stored request to work on an order."""

    __tablename__ = "floor_jobs"

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    key: Mapped[str] = mapped_column(String(200))
    queue: Mapped[str] = mapped_column(String(100))
    priority: Mapped[int] = mapped_column(SmallInteger)
    state: Mapped[str] = mapped_column(String(16))
    run_at: Mapped[datetime] = mapped_column(UtcDateTime)
    args: Mapped[str] = mapped_column(Text)
    record_id: Mapped[int] = mapped_column(BigId)
    attempt: Mapped[int] = mapped_column(server_default="0")
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    owner: Mapped[str | None] = mapped_column(String(64))
    token: Mapped[str | None] = mapped_column(String(64))
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


for name, columns, state in (
    ("claim", ("queue", "priority", "run_at", "id"), "queued"),
    ("lease", ("lease_until",), "processing"),
):
    condition = text(f"state = '{state}'")
    Index(
        f"ix_floor_jobs_{name}",
        *(FloorJob.__table__.c[column] for column in columns),
        postgresql_where=condition,
        sqlite_where=condition,
    )

history = Table(
    "floor_history",
    Base.metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("record_id", BigId, nullable=False),
    Column("name", String(200), nullable=False),
    Column("source", String(100)),
    Column("target", String(100), nullable=False),
    Column("version", Integer, nullable=False),
    Column("job_id", BigId),
    Column("attempt", Integer),
    Column("duration", Float),
    Column("at", UtcDateTime, nullable=False),
    Index("ix_floor_history_record", "record_id", "id"),
)

FILL = (
    """
    insert into floor_orders (total, state, created_at)
    select 42, 'queued', now() from generate_series(1, %(number)s)
    """,
    f"""
    insert into floor_jobs (key, queue, priority, state, run_at, args, record_id)
    select 'order.charge', '{QUEUE}', 0, 'queued', now(), '{{}}', id from floor_orders
    where state = 'queued' order by id desc limit %(number)s
    """,
)
"""Submits that many orders (PostgreSQL)."""


def create_tables(url: str) -> None:
    """Create the floors' tables in an empty database."""
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    engine.dispose()
