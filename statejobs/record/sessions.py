"""Which kind of session a door takes: one that works at once, or one that awaits."""

from __future__ import annotations

from sqlalchemy.orm import Session, scoped_session

from statejobs.errors import ConfigurationError


def refuse_async(session: object, door: str, *, instead: str = "") -> None:
    """Refuse what is no `Session`, such as an `AsyncSession`.

    Raises:
        ConfigurationError: It is not; with the call that works.
    """
    if isinstance(session, (Session, scoped_session)):
        return
    through = f"await session.run_sync(lambda sync: ….{door}(sync, …))"
    raise ConfigurationError(
        f"{door}() was given a value of type {type(session).__name__}, not a Session",
        why="it works in the transaction of a Session, at once",
        fix=f"of an AsyncSession: {instead or through}",
    )


def refuse_sync(session: object, door: str, *, instead: str) -> None:
    """Refuse what is no `AsyncSession`, such as a `Session`.

    Raises:
        ConfigurationError: It is not; with the call that works.
    """
    if hasattr(session, "run_sync"):
        return
    raise ConfigurationError(
        f"{door}() was given a value of type {type(session).__name__}, not an AsyncSession",
        why="it awaits what the session does",
        fix=f"of a Session: {instead}",
    )
