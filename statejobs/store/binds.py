"""Finds the one connection on which jobs commit together with what they belong to.

One in AUTOCOMMIT is refused, where each statement is its own transaction and a rollback leaves the
job; so are two databases, and two phases.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, TwoPhaseTransaction
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.orm import Mapper, Session

from statejobs.errors import BindMismatchError, ConfigurationError
from statejobs.store.tables import jobs

_AUTOCOMMIT = "AUTOCOMMIT"


def connection_for(session: Session, mapper: Mapper[Any]) -> Connection:
    """Return the session's own connection for records of *mapper*.

    Raises:
        BindMismatchError: The session would write jobs into another database.
        ConfigurationError: It is in AUTOCOMMIT, or commits in two phases.
    """
    record_bind = session.get_bind(mapper=mapper)
    try:
        job_bind = session.get_bind(clause=jobs)
    except UnboundExecutionError:
        # only the models are bound: jobs go where the record goes
        job_bind = record_bind
    if record_bind.engine.pool is not job_bind.engine.pool:
        raise BindMismatchError(
            mapper.class_.__name__, _name(record_bind), _name(job_bind)
        )
    return _atomic(session.connection(bind_arguments={"mapper": mapper}))


def connection_for_jobs(session: Session) -> Connection:
    """Return the session's own connection for jobs that belong to no record.

    Raises:
        ConfigurationError: The session is bound to models only, is in AUTOCOMMIT, or commits in
            two phases.
    """
    try:
        connection = session.connection(bind_arguments={"clause": jobs})
    except UnboundExecutionError:
        raise ConfigurationError(
            "this session has no engine for the job tables",
            why="it does not say where the job of a task goes",
            fix="make it with Session(engine), or add "
            "statejobs.metadata.tables['statejobs_jobs']: engine to its binds",
        ) from None
    return _atomic(connection)


def refuse_autocommit_engine(engine: Engine) -> None:
    """Refuse an engine that was made with `isolation_level="AUTOCOMMIT"`; asks no database.

    Raises:
        ConfigurationError: It was.
    """
    chosen = engine.get_execution_options().get("isolation_level")
    # There is no public way to what create_engine() was told.
    made_with = getattr(engine.dialect, "_on_connect_isolation_level", None)
    if _AUTOCOMMIT in {chosen, made_with}:
        raise _refused_autocommit("this engine is in AUTOCOMMIT")


def refuse_autocommit(connection: Connection) -> None:
    """Refuse a connection that begins no transaction, however it was told so.

    Raises:
        ConfigurationError: What is written on it cannot be rolled back.
    """
    if connection.get_execution_options().get("statejobs_begin"):
        return  # begins at the first write
    driver: Any = connection.connection.driver_connection
    if _is_autocommit(connection, driver) and not _has_begun(driver):
        raise _refused_autocommit("this session's connection is in AUTOCOMMIT")


def _atomic(connection: Connection) -> Connection:
    refuse_autocommit(connection)
    if isinstance(connection.get_transaction(), TwoPhaseTransaction):
        raise _refused_two_phases()
    return connection


def _refused_two_phases() -> ConfigurationError:
    """Say it before PostgreSQL would at the commit, in words that name none of this."""
    return ConfigurationError(
        "a session with twophase=True cannot store jobs",
        why="a transaction that wakes workers (NOTIFY) cannot be prepared in PostgreSQL",
        fix="use a session without it: the record, its job and its history commit together "
        "in one database",
    )


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


def _refused_autocommit(problem: str) -> ConfigurationError:
    return ConfigurationError(
        problem,
        why="each statement is its own transaction there, so that a rollback would leave jobs and "
        "history of what did not happen",
        fix='leave isolation_level="AUTOCOMMIT" (or autocommit of the driver) out; where you need '
        'it, say engine.execution_options(isolation_level="AUTOCOMMIT") beside',
    )


def _name(bind: Engine | Connection) -> str:
    return bind.engine.url.render_as_string(hide_password=True)
