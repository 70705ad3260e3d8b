"""When schedules are due, and each of their ticks."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    add("statejobs_jobs", sa.Column("tick_at", sa.DateTime(timezone=True)))
    op.create_table(
        "statejobs_schedules",
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("spec", sa.String(64), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True)),
        sa.Column("last_at", sa.DateTime(timezone=True)),
        sa.Column("paused_at", sa.DateTime(timezone=True)),
        sa.Column("paused_by", sa.Text),
        sa.Column("cursor", sa.Text),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("ix_statejobs_schedules_next", "statejobs_schedules", ["next_at"])
    op.create_table(
        "statejobs_ticks",
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cursor", sa.Text),
        count("enqueued"),
        count("skipped"),
        sa.Column("done_at", sa.DateTime(timezone=True)),
        sa.Column("why", sa.Text),
        sa.PrimaryKeyConstraint("key", "at"),
    )
    undone = sa.text("done_at IS NULL")
    op.create_index(
        "ix_statejobs_ticks_undone",
        "statejobs_ticks",
        ["key", "at"],
        postgresql_where=undone,
        sqlite_where=undone,
    )


def count(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer, nullable=False, server_default=sa.text("0"))


def add(table: str, column: sa.Column[Any]) -> None:
    op.add_column(table, column, schema=translated_schema())


def translated_schema() -> str | None:
    """Alembic's ALTER TABLE does not look into `schema_translate_map`."""
    if op.get_context().as_sql:
        return None
    translated = op.get_bind().get_execution_options().get("schema_translate_map") or {}
    return translated.get(None)
