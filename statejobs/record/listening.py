"""Listens on every Session; objects that are no records of ours pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session

from statejobs.record.doors import serve_or_refuse
from statejobs.record.flush import (
    after_commit,
    after_flush,
    after_flush_postexec,
    after_rollback,
    before_flush,
)
from statejobs.record.merging import carry_steps
from statejobs.record.old_doors import close_old_doors
from statejobs.record.restaging import restage


def listen_to_sessions() -> None:
    """Listen on every Session, once; the one permitted global. Other objects are ignored."""
    for name, listener in _LISTENERS.items():
        if not event.contains(Session, name, listener):
            event.listen(Session, name, listener)
    close_old_doors()
    carry_steps()


_LISTENERS: dict[str, Callable[..., Any]] = {
    "before_flush": before_flush,
    "after_flush": after_flush,
    "after_flush_postexec": after_flush_postexec,
    "persistent_to_transient": restage,
    "after_commit": after_commit,
    "after_soft_rollback": after_rollback,
    "do_orm_execute": serve_or_refuse,
}
