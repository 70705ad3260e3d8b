"""What the database's faults gave back, and what a node knows, holds, and takes the time to be."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    add(
        "statejobs_jobs",
        sa.Column("returned", sa.Integer, nullable=False, server_default=sa.text("0")),
    )
    add("statejobs_nodes", sa.Column("clock_offset", sa.Float))
    add("statejobs_nodes", sa.Column("declares", sa.Text))
    add("statejobs_nodes", sa.Column("held", sa.Text))


def add(table: str, column: sa.Column[Any]) -> None:
    op.add_column(table, column, schema=translated_schema())


def translated_schema() -> str | None:
    """Alembic's ALTER TABLE does not look into `schema_translate_map`."""
    if op.get_context().as_sql:
        return None
    translated = op.get_bind().get_execution_options().get("schema_translate_map") or {}
    return translated.get(None)
