"""The record and the actions of all libraries. Runs in their environments, without statejobs."""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import DateTime, create_engine, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

URL = os.environ["STATEJOBS_BENCH_URL"]
KIND = sys.argv[2] if len(sys.argv) > 2 else ""
IS_ORDER = KIND == "W4"


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[int]
    charged_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    state: Mapped[str]


def engine():
    if URL.startswith("sqlite"):
        return create_engine(URL)
    return create_engine(URL.replace("postgresql://", "postgresql+psycopg://"))


def create_table() -> None:
    Base.metadata.create_all(engine())


def new_orders(count: int) -> list[int]:
    """Insert orders that wait; return their ids."""
    with Session(engine()) as session:
        first = session.scalar(select(func.coalesce(func.max(Order.id), 0)))
        rows = [{"total": 1, "state": "queued"} for _ in range(count)]
        session.execute(insert(Order), rows)
        session.commit()
        return list(session.scalars(select(Order.id).where(Order.id > first)))


_sessions = None
_is_marked = False


def sessions() -> async_sessionmaker[AsyncSession]:
    global _sessions
    if _sessions is None:
        url = URL.replace("postgresql://", "postgresql+asyncpg://")
        _sessions = async_sessionmaker(create_async_engine(url, pool_size=20))
    return _sessions


async def pay(order_id: int) -> None:
    """Load the order, act, move its state, commit."""
    mark_start()
    async with sessions()() as session:
        order = await session.get_one(Order, order_id)
        order.charged_at = datetime.now(UTC)
        order.state = "completed"
        await session.commit()


def pay_now(order_id: int, bind) -> None:
    """Do the same without asyncio."""
    mark_start()
    with Session(bind) as session:
        order = session.get_one(Order, order_id)
        order.charged_at = datetime.now(UTC)
        order.state = "completed"
        session.commit()


def mark_start() -> None:
    """Leave a file that says when the first action of this process began."""
    global _is_marked
    if not _is_marked:
        _is_marked = True
        Path(os.environ["STATEJOBS_BENCH_MARKS"], str(os.getpid())).write_text(
            repr(time.time())
        )


def say_rate(count: int, began: float) -> None:
    """Print the rate of an enqueue for the parent."""
    print(json.dumps({"rate": count / (time.perf_counter() - began)}))
