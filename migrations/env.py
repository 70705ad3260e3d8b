"""Alembic's environment for the tables of statejobs.

`statejobs db upgrade` hands its connection over. A developer who changed `store/tables.py` says
`alembic -x url=sqlite:///dev.db revision --autogenerate --rev-id 0005 -m "what changed"`.
"""

from typing import Any

from alembic import context
from sqlalchemy import Connection

from statejobs.alembic import alembic_options
from statejobs.store.engines.factory import open_engine
from statejobs.store.schema import migration_transaction, schema_of
from statejobs.store.tables import VERSION_TABLE, metadata


def is_ours(name: str | None, kind: str, _parents: Any) -> bool:
    return kind != "table" or name in metadata.tables


def migrate(**target: Any) -> None:
    context.configure(
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        include_name=is_ours,
        transactional_ddl=True,
        **alembic_options(),
        **target,
    )
    with context.begin_transaction():
        context.run_migrations()


def migrate_online(connection: Connection) -> None:
    migrate(connection=connection, version_table_schema=schema_of(connection))


def migrate_url(url: str) -> None:
    engine = open_engine(url)
    with migration_transaction(engine) as connection:
        migrate_online(connection)
    engine.dispose()


attributes = context.config.attributes
if context.is_offline_mode():
    migrate(dialect_name=attributes["dialect"], literal_binds=True)
elif "connection" in attributes:
    migrate_online(attributes["connection"])
else:
    migrate_url(context.get_x_argument(as_dictionary=True)["url"])
