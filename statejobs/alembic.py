"""What the `env.py` of your own Alembic needs."""

from statejobs.store.atomic_migrations import atomic_migrations
from statejobs.store.autogenerate import alembic_options

__all__ = ["alembic_options", "atomic_migrations"]
