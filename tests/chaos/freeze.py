"""A worker that is stopped in the open transaction of an atomic action, and holds its locks."""

import threading
import time
from contextlib import suppress
from datetime import datetime

from sqlalchemy import Engine, update
from sqlalchemy.exc import SQLAlchemyError

from statejobs.store.engines.factory import open_engine
from tests.chaos.app import HOLDS, Deposit, Does, holder_of
from tests.chaos.field import Field
from tests.chaos.fleet import Post, now, wait_until
from tests.chaos.submitter import new_id

_MARGIN = 10.0  # seconds for a loaded machine
_LEAST = 10.0  # seconds that a transaction may stand idle, whatever the lease
_PATIENCE = 60.0  # seconds


def freeze(field: Field) -> None:
    """Stop a worker while it holds the record of a deposit; who waits for it is watched."""
    deposit, post = field.until(lambda: _freeze_one(field, new_id(field.rng)))
    frozen_at = now()
    field.submit({new_id(field.rng): Does.TOUCH})
    watch = threading.Thread(
        target=_watch, args=[field, post, deposit, frozen_at], daemon=True
    )
    watch.start()
    field.paused.append(watch)


def _freeze_one(field: Field, deposit: str) -> tuple[str, Post] | None:
    field.until(lambda: _submit(field, deposit))
    field.note_submitted(deposit)
    holder = holder_of(deposit)
    field.until(lambda: wait_until(holder.exists, within=5))
    field.look_who_serves()
    # to hold its transaction still
    is_sure = time.time() - holder.stat().st_mtime < HOLDS / 2
    post = field.fleet.freeze(int(holder.read_text())) if is_sure else None
    return (deposit, post) if post else None


def _submit(field: Field, deposit: str) -> bool:
    with suppress(SQLAlchemyError), field.app.session() as session:
        if session.get(Deposit, deposit) is None:
            session.add(Deposit(id=deposit))
            session.commit()
        return True
    return False


def _watch(field: Field, post: Post, deposit: str, frozen_at: datetime) -> None:
    """Be a user who writes to the record, then wake the worker."""
    limit = max(2 * field.plan.lease, _LEAST)
    engine = open_engine(
        field.engine.url.render_as_string(hide_password=False), connections=1
    )
    if not wait_until(lambda: _write(engine, deposit), within=limit + _PATIENCE):
        field.illegal.append(f"a frozen worker held deposit {deposit} for good")
    engine.dispose()
    seconds = (now() - frozen_at).total_seconds()
    was_away = any(gone < now() and frozen_at < back for gone, back in field.away)
    if seconds > limit + _MARGIN and not was_away:
        field.illegal.append(
            f"a frozen worker held deposit {deposit} for {seconds:.0f} s"
        )
    if not wait_until(lambda: field.has_finished_after(frozen_at), within=_PATIENCE):
        field.illegal.append("nobody finished a job while a worker was frozen")
    time.sleep(max(0.0, field.plan.pause - seconds))  # noqa: TID251
    field.fleet.resume(post)


def _write(engine: Engine, deposit: str) -> bool:
    with suppress(SQLAlchemyError), engine.begin() as connection:
        mine = Deposit.__table__.c.id == deposit
        seen = Deposit.__table__.c.seen
        connection.execute(update(Deposit.__table__).where(mine).values(seen=seen + 1))
        return True
    return False
