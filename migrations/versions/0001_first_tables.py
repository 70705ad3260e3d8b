"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)

# An option of the table is written only by SQLAlchemy 2.1.
VACUUM_SOON = """
ALTER TABLE %(fullname)s SET (
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.02
)
"""


def upgrade() -> None:
    create_jobs()
    create_attempts()
    create_transitions()
    create_nodes()


def create_jobs() -> None:
    jobs = op.create_table(
        "statejobs_jobs",
        sa.Column("id", BIG_ID, primary_key=True, autoincrement=True),
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("queue", sa.String(100), nullable=False),
        sa.Column("priority", sa.SmallInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("run_at", TIME, nullable=False),
        sa.Column("args", sa.Text, nullable=False),
        sa.Column("resource", sa.String(200)),
        sa.Column("record_id", sa.Text),
        sa.Column("record_source", sa.String(100)),
        sa.Column("dedupe_key", sa.Text),
        sa.Column("idempotency_key", sa.String(64), nullable=False),
        sa.Column("actor", sa.Text),
        sa.Column("tenant", sa.Text),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("max_attempts", sa.Integer, nullable=False),
        sa.Column("crashes", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("coalesced", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column(
            "run_again", sa.Boolean, nullable=False, server_default=sa.text("false")
        ),
        sa.Column("lease_until", TIME),
        sa.Column("owner", sa.String(64)),
        sa.Column("token", sa.String(64)),
        sa.Column(
            "cancel_requested",
            sa.Boolean,
            nullable=False,
            server_default=sa.text("false"),
        ),
        sa.Column("progress", sa.Text),
        sa.Column("checkpoint", sa.Text),
        sa.Column("enqueued_at", TIME, nullable=False),
        sa.Column("started_at", TIME),
        sa.Column("finished_at", TIME),
        sa.Column("reason", sa.Text),
        sa.CheckConstraint(
            "priority BETWEEN 0 AND 9", name="ck_statejobs_jobs_priority"
        ),
        sa.CheckConstraint(
            "attempt >= 0 AND max_attempts > 0", name="ck_statejobs_jobs_attempt"
        ),
    )
    clear_dead_rows_soon(jobs)
    create_partial_index(
        "ix_statejobs_jobs_claim",
        ["queue", "priority", "run_at", "id"],
        "state = 'queued'",
    )
    create_partial_index(
        "ix_statejobs_jobs_due", ["run_at"], "state IN ('scheduled', 'failed')"
    )
    create_partial_index(
        "ix_statejobs_jobs_lease", ["lease_until"], "state = 'processing'"
    )
    create_partial_index(
        "ix_statejobs_jobs_ended",
        ["state", "finished_at"],
        "state IN ('completed', 'cancelled', 'discarded')",
    )
    create_partial_index(
        "uq_statejobs_jobs_dedupe", ["dedupe_key"], "state != 'completed'", unique=True
    )


def clear_dead_rows_soon(table: sa.Table) -> None:
    if op.get_context().dialect.name == "postgresql":
        op.execute(sa.DDL(VACUUM_SOON).against(table))


def create_attempts() -> None:
    op.create_table(
        "statejobs_attempts",
        sa.Column("id", BIG_ID, primary_key=True, autoincrement=True),
        sa.Column("job_id", BIG_ID, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("outcome", sa.String(20), nullable=False),
        sa.Column("error_type", sa.Text),
        sa.Column("message", sa.Text),
        sa.Column("traceback", sa.Text),
        sa.Column("node", sa.String(64)),
        sa.Column("started_at", TIME),
        sa.Column("finished_at", TIME, nullable=False),
    )
    op.create_index("ix_statejobs_attempts_job", "statejobs_attempts", ["job_id"])


def create_transitions() -> None:
    op.create_table(
        "statejobs_transitions",
        sa.Column("id", BIG_ID, primary_key=True, autoincrement=True),
        sa.Column("resource", sa.String(200), nullable=False),
        sa.Column("record_id", sa.Text, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("source", sa.String(100)),
        sa.Column("target", sa.String(100), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("actor", sa.Text),
        sa.Column("tenant", sa.Text),
        sa.Column("job_id", BIG_ID),
        sa.Column("attempt", sa.Integer),
        sa.Column("args", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("duration", sa.Float),
        sa.Column("at", TIME, nullable=False),
    )
    op.create_index(
        "ix_statejobs_transitions_record",
        "statejobs_transitions",
        ["resource", "record_id", "id"],
    )


def create_nodes() -> None:
    op.create_table(
        "statejobs_nodes",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("queues", sa.Text, nullable=False),
        sa.Column("version", sa.String(40), nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("beat_at", TIME, nullable=False),
    )


def create_partial_index(
    name: str, columns: list[str], where: str, *, unique: bool = False
) -> None:
    op.create_index(
        name,
        "statejobs_jobs",
        columns,
        unique=unique,
        postgresql_where=sa.text(where),
        sqlite_where=sa.text(where),
    )
