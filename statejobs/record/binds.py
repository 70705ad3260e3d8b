"""Finds the one connection on which jobs commit together with what they belong to."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, TwoPhaseTransaction
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.orm import Mapper, Session, scoped_session

from statejobs.errors import BindMismatchError, ConfigurationError
from statejobs.store.engines.autocommit import refuse_autocommit
from statejobs.store.tables import jobs


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


def connection_for(session: Session, mapper: Mapper[Any]) -> Connection:
    """Return the session's own connection for records of *mapper*.

    Raises:
        BindMismatchError: The session would write jobs into another database.
        ConfigurationError: It is in AUTOCOMMIT, or commits in two phases.
    """
    record_bind = session.get_bind(mapper=mapper)
    try:
        job_bind = session.get_bind(clause=jobs)
    except UnboundExecutionError:  # only the models are bound: jobs go where the record goes
        job_bind = record_bind
    if _engine(record_bind).pool is not _engine(job_bind).pool:
        raise BindMismatchError(mapper.class_.__name__, _name(record_bind), _name(job_bind))
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


def _atomic(connection: Connection) -> Connection:
    refuse_autocommit(connection)
    _refuse_two_phases(connection)
    return connection


def _refuse_two_phases(connection: Connection) -> None:
    """Refuse what PostgreSQL would refuse at the commit, in words that name none of this."""
    if isinstance(connection.get_transaction(), TwoPhaseTransaction):
        raise ConfigurationError(
            "a session with twophase=True cannot store jobs",
            why="a transaction that wakes workers (NOTIFY) cannot be prepared in PostgreSQL",
            fix="use a session without it: the record, its job and its history commit together "
            "in one database",
        )


def _engine(bind: Engine | Connection) -> Engine:
    return bind.engine if isinstance(bind, Connection) else bind


def _name(bind: Engine | Connection) -> str:
    return _engine(bind).url.render_as_string(hide_password=True)
