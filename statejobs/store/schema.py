"""Makes, checks and migrates the tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, func, insert, inspect, select

from statejobs.errors import SchemaError
from statejobs.store.engines.addresses import shown_url
from statejobs.store.engines.lazy_begin import begin_now, in_transaction
from statejobs.store.engines.savepoints import borrowed_of
from statejobs.store.missing import HOW_TO_MAKE_TABLES
from statejobs.store.nodes import find_alive
from statejobs.store.tables import VERSION_TABLE, metadata, versions

HEAD = "0005"
"""Revision of the newest migration. Revisions are numbers of four digits, so that they sort."""

_LOCK = int.from_bytes(b"statejob", "big")


def create_tables(engine: Engine) -> None:
    """Create the tables that are missing; a database that had none of them is then at `HEAD`.

    Raises:
        SchemaError: The tables are of another version of statejobs.
    """
    with migration_transaction(engine) as connection:
        existing = _existing_columns(connection)
        revision = _read_revision(connection, existing)
        _check_revision(engine, revision)
        metadata.create_all(connection)
        # Tables without a revision belong to the user's own Alembic: a revision would go stale.
        if revision is None and not existing.keys() - {VERSION_TABLE}:
            connection.execute(insert(versions).values(version_num=HEAD))


def check_tables(engine: Engine) -> None:
    """Refuse a database whose tables do not fit this version of statejobs.

    Raises:
        SchemaError: Tables or columns are missing, or they are of another version.
    """
    with engine.connect() as connection:
        existing = _existing_columns(connection)
        revision = _read_revision(connection, existing)
    _check_revision(engine, revision)
    missing = sorted(metadata.tables.keys() - existing.keys())
    if missing:
        raise SchemaError(
            f"{_name(engine)} lacks the tables {', '.join(missing)}",
            fix=HOW_TO_MAKE_TABLES,
        )
    if revision is None:
        _check_columns(engine, existing)


def upgrade(
    engine: Engine,
    revision: str = "head",
    *,
    sql: bool = False,
    alive_since: datetime | None = None,
) -> None:
    """Bring the tables to *revision* in one transaction, or print the SQL that would.

    Processes that upgrade at the same time wait for each other.

    Args:
        engine: The database; with *sql* only its dialect counts.
        revision: Where to; with *sql* also `from:to`, otherwise the SQL starts from nothing.
        sql: Print SQL to stdout and touch nothing.
        alive_since: Whoever was alive since then may run old code, which on SQLite cannot enqueue
            once an index has another condition.

    Raises:
        SchemaError: The tables are newer than this version of statejobs or belong to an Alembic
            of the user's, there is no such revision, or a worker is alive.
    """
    from alembic import command  # noqa: PLC0415 - slow to import
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option(
        "script_location", str(_find_migrations()).replace("%", "%%")
    )
    try:
        if sql:
            config.attributes["dialect"] = engine.dialect.name
            command.upgrade(config, revision, sql=True)
            return
        with migration_transaction(engine) as connection:
            _check_ours(engine, connection)
            if alive_since is not None:
                _refuse_beside_workers(engine, connection, alive_since)
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
    except CommandError as error:
        raise SchemaError(
            f"cannot upgrade to {revision!r}",
            why=str(error),
        ) from error


def current(engine: Engine) -> str | None:
    """Return the revision of the tables; None without tables, or when a user's Alembic has them."""
    with engine.connect() as connection:
        return _read_revision(connection, _existing_columns(connection))


def alembic_options(**options: Any) -> dict[str, Any]:
    """Return `statejobs.alembic.alembic_options()`, which the first `env.py` files find here."""
    from statejobs.store import autogenerate  # noqa: PLC0415 - Alembic is slow to import

    return autogenerate.alembic_options(**options)


@contextmanager
def migration_transaction(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that no other migration of this database runs beside."""
    with engine.connect() as connection:
        is_sqlite = connection.dialect.name == "sqlite"
        is_ours = borrowed_of(connection) is None
        if not is_sqlite and is_ours:
            # A snapshot taken before the lock would not show what the last holder did.
            connection.execution_options(isolation_level="READ COMMITTED")
        with connection.begin():
            if not is_sqlite:
                connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
            elif not is_ours:
                begin_now(connection)
            elif not in_transaction(connection):
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection


def schema_of(connection: Connection) -> str | None:
    """Return the schema that `schema_translate_map` puts the tables in."""
    translated = connection.get_execution_options().get("schema_translate_map") or {}
    schema: str | None = translated.get(None)
    return schema


def _existing_columns(connection: Connection) -> dict[str, set[str]]:
    """Return those of our tables that exist, with the names of their columns."""
    found = inspect(connection).get_multi_columns(
        schema=schema_of(connection), filter_names=list(metadata.tables)
    )
    return {
        table: {column["name"] for column in columns}
        for (_, table), columns in found.items()
    }


def _read_revision(connection: Connection, existing: dict[str, set[str]]) -> str | None:
    if VERSION_TABLE not in existing:
        return None
    revision: str | None = connection.scalar(select(func.max(versions.c.version_num)))
    return revision


def _check_revision(engine: Engine, revision: str | None) -> None:
    if revision is None or revision == HEAD:
        return
    state = f"the tables of {_name(engine)} are at revision {revision}"
    if revision < HEAD:
        raise SchemaError(
            f"{state}, this version of statejobs needs {HEAD}",
            fix="run `statejobs db upgrade`",
        )
    raise SchemaError(
        f"{state}, which this version of statejobs does not know (its own is {HEAD})",
        why="it is older than the database",
        fix="Install the statejobs that upgraded it, or a newer one",
    )


def _check_columns(engine: Engine, existing: dict[str, set[str]]) -> None:
    """Refuse old tables that carry no revision: those of a user's own Alembic."""
    missing = [
        f"{table.name}.{column.name}"
        for table in metadata.sorted_tables
        for column in table.columns
        if column.name not in existing[table.name]
    ]
    if missing:
        raise SchemaError(
            f"{_name(engine)} lacks the columns {', '.join(missing)}, and its "
            f"{VERSION_TABLE} is empty",
            why="your own Alembic has these tables",
            fix="Run `alembic revision --autogenerate`, then `alembic upgrade head`",
        )


def _check_ours(engine: Engine, connection: Connection) -> None:
    """Refuse to migrate tables that carry no revision."""
    existing = _existing_columns(connection)
    revision = _read_revision(connection, existing)
    if revision is not None and revision > HEAD:
        _check_revision(engine, revision)
    if revision is None and existing.keys() - {VERSION_TABLE}:
        raise SchemaError(
            f"{_name(engine)} has tables of statejobs, but its {VERSION_TABLE} is "
            "empty",
            why="your own Alembic, or metadata.create_all(), made them",
            fix=(
                "Upgrade them there: `alembic revision --autogenerate`, then "
                "`alembic upgrade head`"
            ),
        )


def _refuse_beside_workers(
    engine: Engine, connection: Connection, alive_since: datetime
) -> None:
    """Refuse to change the tables of a SQLite file under workers of the old version."""
    revision = _read_revision(connection, _existing_columns(connection))
    if engine.dialect.name != "sqlite" or revision is None or revision == HEAD:
        return
    alive = find_alive(connection, alive_since)
    if alive:
        workers = "a worker is" if len(alive) == 1 else f"{len(alive)} workers are"
        raise SchemaError(
            f"cannot upgrade {_name(engine)} while {workers} alive: {', '.join(alive)}",
            why="on SQLite old code cannot enqueue on the new index",
            fix="Stop the workers, and whatever else enqueues there, and run it again; one that "
            "was killed is forgotten when its lease is over",
        )


def _find_migrations() -> Path:
    """Return our Alembic environment: inside the wheel, or beside the package in the repository."""
    package = Path(str(files("statejobs")))
    shipped = package / "migrations"
    return shipped if shipped.is_dir() else package.parent / "migrations"


def _name(engine: Engine) -> str:
    return shown_url(engine.url)
