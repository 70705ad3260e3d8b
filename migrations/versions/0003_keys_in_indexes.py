"""Waiting jobs by their key, so that those of other apps in a queue are passed over."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    _create("keys", ["queue", "key", "priority", "run_at", "id"], "state = 'queued'")
    op.drop_index("ix_statejobs_jobs_due", "statejobs_jobs")
    _create("due", ["run_at", "queue", "key"], "state IN ('scheduled', 'failed')")


def _create(name: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(
        f"ix_statejobs_jobs_{name}",
        "statejobs_jobs",
        columns,
        postgresql_where=where,
        sqlite_where=where,
    )
