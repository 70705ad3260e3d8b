"""`session.merge()` copies attributes alone: what a new record has done in memory goes along.

SQLAlchemy tells nobody which object is merged into which, also through relationships. So while it
copies, the attribute of a new record's state holds the steps that led there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state

from statejobs.record.ledger import Step, pending_steps


@dataclass(frozen=True, slots=True)
class Carried:
    """What the state of a record is while it is merged."""

    steps: tuple[Step, ...]


def carry_steps() -> None:
    """Let `merge` and `merge_all` of each `Session` take steps along; other objects pass."""
    for name, method in _METHODS.items():
        if getattr(Session, name) is not method:
            setattr(Session, name, method)


def _merging_one(merge: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(merge)
    def merge_it(session: Session, instance: Any, **options: Any) -> Any:
        with _carrying(session, [instance]):
            return merge(session, instance, **options)

    return merge_it


def _merging_all(merge_all: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(merge_all)
    def merge_them(session: Session, instances: Any, **options: Any) -> Any:
        given = list(instances)  # it may be a generator
        with _carrying(session, given):
            return merge_all(session, given, **options)

    return merge_them


@contextmanager
def _carrying(session: Session, given: Sequence[Any]) -> Iterator[None]:
    """Let the new records among *given*, and those that are merged with them, hold their steps."""
    held: list[tuple[dict[str, Any], str, object]] = []
    for record in _new_records(session, given):
        attribute = type(record).__statejobs__.attribute
        values = vars(record)
        if not isinstance(values.get(attribute), Carried):
            held.append((values, attribute, values.get(attribute)))
            values[attribute] = Carried(tuple(pending_steps(record)))
    try:
        yield
    finally:
        for values, attribute, state in held:
            values[attribute] = state


def _new_records(session: Session, given: Sequence[Any]) -> Iterator[Any]:
    """Return the new records with steps that are to be merged; those of *session* stay."""
    for instance in given:
        state: Any = inspect(instance, raiseerr=False)
        if state is None or not hasattr(state, "mapper"):
            continue  # `merge` says so itself
        beside = (found for found, *_ in state.mapper.cascade_iterator("merge", state))
        for record in (instance, *beside):
            if not hasattr(type(record), "__statejobs__") or not pending_steps(record):
                continue
            own = instance_state(record)
            if own.key is None and own.session is not session:
                yield record


_METHODS = {"merge": _merging_one(Session.merge)}
if hasattr(Session, "merge_all"):  # from SQLAlchemy 2.1 on
    _METHODS["merge_all"] = _merging_all(Session.merge_all)
