"""What a user set up for the connections of an engine holds for those beside it as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Engine, event

_OF_POOL = ("connect", "checkout", "checkin", "reset", "invalidate", "close")
_OF_DIALECT = ("do_connect",)


def take_over_listeners(engine: Engine, other: Engine) -> None:
    """Let *other*, an engine on the same database, tell the listeners that users gave *engine*.

    As they are now: a role, a search path or a PRAGMA that a listener sets is set there too. On an
    async engine they get SQLAlchemy's adapted connection, whose `cursor()` works as the driver's.
    """
    for name in _OF_POOL:
        for listener in _of_users(getattr(engine.pool.dispatch, name)):
            event.listen(other.pool, name, listener)
    for name in _OF_DIALECT:
        for listener in _of_users(getattr(engine.dialect.dispatch, name)):
            event.listen(other.dialect, name, listener)


def _of_users(listeners: Any) -> Iterator[Callable[..., Any]]:
    """Return those that neither SQLAlchemy itself nor statejobs has set up."""
    for listener in listeners:
        module: str = getattr(listener, "__module__", None) or ""
        is_wrapped = module.startswith("sqlalchemy.event.")  # a user's, in another form
        if is_wrapped or module.partition(".")[0] not in {"sqlalchemy", "statejobs"}:
            yield listener
