"""Queued jobs by their key, so that those of other apps in a queue are passed over."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    is_queued = sa.text("state = 'queued'")
    op.create_index(
        "ix_statejobs_jobs_keys",
        "statejobs_jobs",
        ["queue", "key", "priority", "run_at", "id"],
        postgresql_where=is_queued,
        sqlite_where=is_queued,
    )
