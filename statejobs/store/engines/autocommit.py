"""Refuses AUTOCOMMIT: where each statement is its own transaction, a rollback leaves the job."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine

from statejobs.errors import ConfigurationError

_AUTOCOMMIT = "AUTOCOMMIT"


def refuse_autocommit_engine(engine: Engine) -> None:
    """Refuse an engine that was made with `isolation_level="AUTOCOMMIT"`; asks no database.

    Raises:
        ConfigurationError: It was.
    """
    chosen = engine.get_execution_options().get("isolation_level")
    # There is no public way to what create_engine() was told.
    made_with = getattr(engine.dialect, "_on_connect_isolation_level", None)
    if _AUTOCOMMIT in {chosen, made_with}:
        raise _refused("this engine is in AUTOCOMMIT")


def refuse_autocommit(connection: Connection) -> None:
    """Refuse a connection that begins no transaction, however it was told so.

    Raises:
        ConfigurationError: What is written on it cannot be rolled back.
    """
    if connection.get_execution_options().get("statejobs_begin"):
        return  # begins at the first write
    driver: Any = connection.connection.driver_connection
    if _is_autocommit(connection, driver) and not _has_begun(driver):
        raise _refused("this session's connection is in AUTOCOMMIT")


def _is_autocommit(connection: Connection, driver: Any) -> bool:
    if getattr(driver, "autocommit", None) is True:  # an option of the driver's own
        return True
    adapted: Any = connection.connection.dbapi_connection
    try:
        return connection.dialect.detect_autocommit_setting(adapted)
    except NotImplementedError:  # a driver of which nobody can tell
        return False


def _has_begun(driver: Any) -> bool:
    """Return whether somebody has sent a BEGIN nevertheless, as SQLAlchemy's recipes for SQLite."""
    if hasattr(driver, "in_transaction"):
        return bool(driver.in_transaction)
    if hasattr(driver, "is_in_transaction"):
        return bool(driver.is_in_transaction())
    info = getattr(driver, "info", None)
    return info is not None and int(info.transaction_status) != 0


def _refused(problem: str) -> ConfigurationError:
    return ConfigurationError(
        problem,
        why="each statement is its own transaction there, so that a rollback would leave jobs and "
        "history of what did not happen",
        fix='leave isolation_level="AUTOCOMMIT" (or autocommit of the driver) out; where you need '
        'it, say engine.execution_options(isolation_level="AUTOCOMMIT") beside',
    )
