"""The `bulk_…` methods of a Session pass all its events, so they refuse resources by themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import Session

from statejobs.errors import ProtectedStateError


def close_old_doors() -> None:
    """Let each `Session` refuse to write resources by these methods; other objects pass."""
    for name, door in _DOORS.items():
        if getattr(Session, name) is not door:
            setattr(Session, name, door)


def _refusing_objects(save: Callable[..., None]) -> Callable[..., None]:
    @wraps(save)
    def save_others(
        session: Session, objects: Iterable[object], *args: Any, **options: Any
    ) -> None:
        given = list(objects)  # it may be a generator
        for record in given:
            _refuse(type(record), save, "Add the records: session.add_all([…])")
        save(session, given, *args, **options)

    return save_others


def _refusing_mappings(write: Callable[..., None], instead: str) -> Callable[..., None]:
    @wraps(write)
    def write_others(session: Session, mapper: Any, *args: Any, **options: Any) -> None:
        inspected: Any = inspect(mapper, raiseerr=False)
        cls = getattr(inspected, "class_", type(None))
        _refuse(
            cls, write, f"Execute the statement: {instead.format(name=cls.__name__)}"
        )
        write(session, mapper, *args, **options)

    return write_others


def _refuse(cls: type, method: Callable[..., None], instead: str) -> None:
    if hasattr(cls, "__statejobs__"):
        raise ProtectedStateError(
            f"session.{method.__name__}() would write {cls.__name__} past its machine",
            why="no guard, no history, no job",
            fix=instead,
        )


_DOORS = {
    "bulk_save_objects": _refusing_objects(Session.bulk_save_objects),
    "bulk_insert_mappings": _refusing_mappings(
        Session.bulk_insert_mappings, "session.execute(insert({name}), [{{…}}, …])"
    ),
    "bulk_update_mappings": _refusing_mappings(
        Session.bulk_update_mappings, "session.execute(update({name}), [{{…}}, …])"
    ),
}
