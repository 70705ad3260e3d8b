"""Finds the one connection on which a record and its jobs commit together."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.orm import Mapper, Session

from statejobs.errors import BindMismatchError
from statejobs.store.tables import jobs


def connection_for(session: Session, mapper: Mapper[Any]) -> Connection:
    """Return the session's own connection for records of *mapper*.

    Raises:
        BindMismatchError: The session would write jobs into another database.
    """
    record_bind = session.get_bind(mapper=mapper)
    try:
        job_bind = session.get_bind(clause=jobs)
    except UnboundExecutionError:  # only the models are bound: jobs go where the record goes
        job_bind = record_bind
    if _engine(record_bind).pool is not _engine(job_bind).pool:
        raise BindMismatchError(mapper.class_.__name__, _name(record_bind), _name(job_bind))
    return session.connection(bind_arguments={"mapper": mapper})


def _engine(bind: Engine | Connection) -> Engine:
    return bind.engine if isinstance(bind, Connection) else bind


def _name(bind: Engine | Connection) -> str:
    return _engine(bind).url.render_as_string(hide_password=True)
