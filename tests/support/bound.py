"""Outer transactions of tests, and what is in the tables after them."""

from contextlib import contextmanager

from sqlalchemy import create_engine, select

from statejobs import configure_sqlite, metadata
from statejobs.store.engines.factory import parse_url
from statejobs.store.tables import VERSION_TABLE

_BY_CHANCE = {"duration", "traceback"}
_TABLES = [table for table in metadata.sorted_tables if table.name != VERSION_TABLE]


def user_engine(url, **options):
    """An engine as an application makes it."""
    engine = create_engine(parse_url(url), **options)
    return configure_sqlite(engine) if engine.dialect.name == "sqlite" else engine


@contextmanager
def outer_transaction(engine):
    """A connection of *engine* in a transaction that is rolled back at the end."""
    with engine.connect() as connection:
        transaction = connection.begin()
        try:
            yield connection
        finally:
            transaction.rollback()


def rows_of(engine, tables):
    """Every row of the tables of statejobs and of *tables*, but for what is chance."""
    with engine.connect() as connection:
        return {
            table.name: [
                {name: value for name, value in row.items() if name not in _BY_CHANCE}
                for row in connection.execute(_in_order(table)).mappings()
            ]
            for table in [*_TABLES, *tables]
        }


def begin_numbers_anew(engine, tables):
    """Let empty tables number their rows from one, as after the rollback on SQLite."""
    if engine.dialect.name == "postgresql":
        names = ", ".join(table.name for table in [*_TABLES, *tables])
        with engine.begin() as connection:
            connection.exec_driver_sql(f"TRUNCATE {names} RESTART IDENTITY CASCADE")


def _in_order(table):
    return select(table).order_by(*table.primary_key.columns)
