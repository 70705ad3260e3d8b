"""How a job ended, what it left, and until when its key is held."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

OUTCOMES = {"completed": "completed", "discarded": "failed", "cancelled": "cancelled"}
"""Of jobs that ended before; why one was cancelled stands in its reason alone."""


def upgrade() -> None:
    add("statejobs_jobs", sa.Column("meta", sa.Text))
    add("statejobs_jobs", sa.Column("unique_until", sa.DateTime(timezone=True)))
    add("statejobs_jobs", sa.Column("outcome", sa.String(16)))
    add(
        "statejobs_jobs",
        sa.Column("snoozes", sa.Integer, nullable=False, server_default=sa.text("0")),
    )
    add("statejobs_jobs", sa.Column("result", sa.Text))
    add("statejobs_jobs", sa.Column("allowance", sa.Integer))
    say_how_old_jobs_ended()
    hold_keys_of_completed_jobs()


def say_how_old_jobs_ended() -> None:
    jobs = sa.table("statejobs_jobs", sa.column("state"), sa.column("outcome"))
    for state, outcome in OUTCOMES.items():
        op.execute(
            jobs.update()
            .where(jobs.c.state == op.inline_literal(state))
            .values(outcome=op.inline_literal(outcome))
        )


def hold_keys_of_completed_jobs() -> None:
    where = sa.text("state != 'completed' OR unique_until IS NOT NULL")
    op.drop_index("uq_statejobs_jobs_dedupe", "statejobs_jobs")
    op.create_index(
        "uq_statejobs_jobs_dedupe",
        "statejobs_jobs",
        ["dedupe_key"],
        unique=True,
        postgresql_where=where,
        sqlite_where=where,
    )


def add(table: str, column: sa.Column[Any]) -> None:
    op.add_column(table, column, schema=translated_schema())


def translated_schema() -> str | None:
    """Alembic's ALTER TABLE does not look into `schema_translate_map`."""
    if op.get_context().as_sql:
        return None
    translated = op.get_bind().get_execution_options().get("schema_translate_map") or {}
    return translated.get(None)
