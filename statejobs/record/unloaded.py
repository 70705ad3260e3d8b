"""Tells whoever met a `MissingGreenlet` which attribute was touched, by what, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from traceback import walk_tb
from typing import Any

from sqlalchemy.exc import MissingGreenlet, SQLAlchemyError
from sqlalchemy.orm import QueryableAttribute, RelationshipProperty

_MARK = "statejobs: "


@dataclass(frozen=True, slots=True)
class Touched:
    """What could not be loaded, and whose code touched it."""

    name: str
    is_related: bool
    guard: str | None

    @property
    def problem(self) -> str:
        """What it is, and why nothing loaded it."""
        if self.is_related:
            return f"{self.name}, a relationship that is not loaded"
        return f"{self.name}, which is not loaded (a commit expires what its session holds)"


def explain_unloaded(
    error: SQLAlchemyError,
    record: Any,
    *,
    name: str,
    call: str,
    guards: Iterable[Any] = (),
) -> None:
    """Add a note to *error* if the database was asked where nobody may wait for it.

    Args:
        error: Whatever SQLAlchemy raised; the innermost call that explains it is kept.
        record: Whose method was called.
        name: Of the transition or action; empty when all were asked.
        call: What follows the record in the call, for instance `submit.can()`.
        guards: Functions that the call asks.
    """
    if not _is_told(error):
        return
    found = _touched(error, guards)
    variable = type(record).__name__.lower()
    error.add_note(
        f"{_MARK}{_label(record)}: {_who(name, found)} touched {found.problem}. Under an "
        "AsyncSession only code that SQLAlchemy called may wait for the database\n"
        f"  fix: load first: {_load(found, 'session', variable)}; or let the whole call wait: "
        f"await session.run_sync(lambda _: {variable}.{call})"
    )


def explain_unloaded_in_body(
    error: SQLAlchemyError,
    name: str,
    *,
    session: str = "session",
    variable: str = "self",
) -> None:
    """Do the same for the body of an `async def` *name*, which can await what it needs."""
    if not _is_told(error):
        return
    found = _touched(error, ())
    attribute = found.name.rpartition(".")[2]
    error.add_note(
        f"{_MARK}the body of {name!r} touched {found.problem}. "
        "An `async def` waits for the database only where it says await\n"
        f"  fix: {_load(found, session, variable)} before, or "
        f"await {variable}.awaitable_attrs.{attribute} with AsyncAttrs among the bases of the model"
    )


def waits_in_vain(error: BaseException) -> bool:
    """Return whether *error* says that the database was asked where nobody may wait for it."""
    return isinstance(error, MissingGreenlet) or isinstance(
        getattr(error, "orig", None), MissingGreenlet
    )


def _is_told(error: SQLAlchemyError) -> bool:
    """Return whether *error* is one that needs a note, and has none of ours."""
    notes = getattr(error, "__notes__", ())
    return waits_in_vain(error) and not any(
        str(note).startswith(_MARK) for note in notes
    )


def _touched(error: SQLAlchemyError, guards: Iterable[Any]) -> Touched:
    """Return what the frames of *error* tell; they are looked at only when it is raised."""
    by_code = {getattr(guard, "__code__", None): guard for guard in guards}
    name = "the database"
    is_related = False
    guard = None
    for frame, _ in walk_tb(error.__traceback__):
        guard = by_code.get(frame.f_code, guard)
        attribute = frame.f_locals.get("self")
        if isinstance(attribute, QueryableAttribute):
            name = f"{attribute.class_.__name__}.{attribute.key}"
            is_related = isinstance(attribute.property, RelationshipProperty)
    return Touched(name, is_related, getattr(guard, "__name__", None))


def _who(name: str, found: Touched) -> str:
    if found.guard is not None:
        return f"guard {found.guard!r}" + (f" of {name!r}" if name else "")
    return repr(name) if name else "available_transitions()"


def _load(found: Touched, session: str, variable: str) -> str:
    """Return what loads it, for a record that is called *variable*."""
    attribute = found.name.rpartition(".")[2]
    if found.is_related:
        return f'await {session}.refresh({variable}, ["{attribute}"])'
    return f"await {session}.refresh({variable})"


def _label(record: Any) -> str:
    label: str = type(record).__statejobs__.label(record)
    return label
