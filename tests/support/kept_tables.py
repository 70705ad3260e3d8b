"""Tables that stay in a PostgreSQL database from one test to the next.

To make and drop the tables of an app takes longer than most tests. They are emptied instead, and
hidden in a schema of their own: the next test finds an empty database, until it makes the very same
tables. Whatever else a test did to its database is dropped, and so are tables that it changed.
"""

from contextlib import contextmanager, suppress
from functools import partial, wraps

from psycopg.errors import UndefinedTable
from sqlalchemy.exc import DBAPIError

from statejobs import StateJobs
from statejobs.store.engines.bound import bound_of
from statejobs.store.tables import VERSION_TABLE
from tests.support.postgres import KEPT_SCHEMA

CATALOGS = {
    "pg_attrdef": "oid",
    "pg_attribute": "attrelid",
    "pg_constraint": "oid",
    "pg_default_acl": "oid",
    "pg_description": "objoid",
    "pg_event_trigger": "oid",
    "pg_extension": "oid",
    "pg_index": "indexrelid",
    "pg_policy": "oid",
    "pg_proc": "oid",
    "pg_publication": "oid",
    "pg_rewrite": "oid",
    "pg_sequence": "seqrelid",
    "pg_statistic": "starelid",
    "pg_statistic_ext": "oid",
    "pg_trigger": "oid",
    "pg_type": "oid",
}
"""What a schema is made of, beside `pg_class`: a row that changes has another `xmin`."""

FIRST_OF_USERS = 16384
"""The lowest id of what no new database has."""

OF_CATALOGS = " UNION ALL ".join(
    f"SELECT '{catalog}' COLLATE \"C\", count(*),"
    f" sum(hash_record_extended(ROW({key}, xmin), 0)) FROM {catalog}"
    f" WHERE {key} >= {FIRST_OF_USERS}"
    for catalog, key in CATALOGS.items()
)
IS_NEW = f"""
SELECT sum(rows) = 0 AND NOT EXISTS (
  SELECT FROM pg_namespace
  WHERE nspname NOT LIKE 'pg\\_%' AND nspname NOT IN ('public', 'information_schema'))
FROM ({OF_CATALOGS}) AS of_catalogs (name, rows, digest)
"""
SHAPE = f"""
SELECT (SELECT string_agg(format('%s %s %s', name, rows, digest), ', ' ORDER BY name)
FROM (
  {OF_CATALOGS}
  UNION ALL SELECT 'pg_class', count(*), sum(hash_record_extended(
    ROW(oid, relname, relowner, relam, reltoastrelid, relpersistence, relnatts, relchecks, relacl,
        relhasrules, relrowsecurity, relforcerowsecurity, relreplident, reloptions), 0))
  FROM pg_class WHERE oid >= {FIRST_OF_USERS}
  UNION ALL SELECT 'pg_namespace', count(*),
    sum(hash_record_extended(ROW(nspname, nspowner, nspacl), 0))
  FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%'
  UNION ALL SELECT 'version', count(*), sum(hash_record_extended(ROW(version_num, xmin), 0))
  FROM public.{VERSION_TABLE}
) AS of_catalogs (name, rows, digest))
"""
ELSEWHERE = f"""
SELECT count(*) FROM pg_class
WHERE oid >= {FIRST_OF_USERS}
  AND relnamespace NOT IN ('public'::regnamespace, 'pg_toast'::regnamespace)
"""
USED = f"""
SELECT coalesce(string_agg(oid::regclass::text, ', '), '') FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> '{VERSION_TABLE}'
  AND (reltuples <> -1 OR pg_relation_size(oid) > 0)
"""
COUNT_FROM_START = """
SELECT setval(seqrelid, seqstart, false) FROM pg_sequence
WHERE pg_sequence_last_value(seqrelid) IS NOT NULL
"""
BRING = f"DROP SCHEMA public; ALTER SCHEMA {KEPT_SCHEMA} RENAME TO public"
HIDE = f"ALTER SCHEMA public RENAME TO {KEPT_SCHEMA}"
FORGET = f"DROP SCHEMA IF EXISTS {KEPT_SCHEMA} CASCADE"

_open = {}
"""Databases of the tests that run, by name."""
_asked_for = set()


class KeptTables:
    """The tables of one database that stay in it."""

    def __init__(self, server, name):
        self._server = server
        self._name = name
        self._made_by = None
        """What made them: two that are equal make the same."""
        self._shape = None
        self._is_asked = False
        """Whether the test that runs has made tables."""
        self._is_out = False
        """Whether those are the ones that stay."""

    @contextmanager
    def serve(self):
        """Be what `make_tables` finds, for one test."""
        self._is_asked = self._is_out = False
        _open[self._name] = self
        try:
            yield
        finally:
            del _open[self._name]

    def make(self, engine, make, made_by):
        """Call *make*, or bring back what it made for an earlier test."""
        is_first, self._is_asked = not self._is_asked, True
        is_known = made_by == self._made_by
        if is_first and is_known and self._bring(engine):
            self._is_out = True
        elif is_first and not is_known and _is_asked_again(made_by) and self._forget():
            make()
            self._note(made_by)
        else:
            make()

    def put_away(self, connection):
        """Empty and hide the tables, unless the test changed them."""
        if not self._is_out:
            return
        with suppress(UndefinedTable), connection.transaction():
            shape, used = connection.execute(f"{SHAPE}, ({USED})").fetchone()
            if shape == self._shape:
                if used:
                    connection.execute(f"TRUNCATE {used} CASCADE")
                connection.execute(COUNT_FROM_START)
                connection.execute(HIDE)
                return
        self._made_by = None

    def _bring(self, engine):
        """Show the tables where the test expects them; False where it has something there."""
        try:
            with engine.begin() as connection:
                connection.exec_driver_sql(BRING)
        except DBAPIError:
            return False
        return True

    def _forget(self):
        """Drop what is kept; return whether nothing else is in the database."""
        self._made_by = None
        with self._server.connect(self._name) as connection:
            connection.execute(FORGET)
            (is_new,) = connection.execute(IS_NEW).fetchone()
            return is_new

    def _note(self, made_by):
        """Let the tables stay, when all are where they can be hidden."""
        with (
            suppress(UndefinedTable),  # there is no version: they are of an older one
            self._server.connect(self._name) as connection,
        ):
            shape, elsewhere = connection.execute(f"{SHAPE}, ({ELSEWHERE})").fetchone()
            if not elsewhere:
                self._made_by, self._shape, self._is_out = made_by, shape, True


def _is_asked_again(made_by):
    """Whether an earlier test made the same: most that declare their own tables are alone."""
    is_again = hash(made_by) in _asked_for
    _asked_for.add(hash(made_by))
    return is_again


def make_tables(engine, make, *made_by):
    """Call *make*, or bring back what it made in the same database for an earlier test.

    Calls with the same *made_by* make the same tables.
    """
    kept = _open.get(engine.url.database)
    if kept is None or bound_of(engine) is not None:
        make()
    else:
        kept.make(engine, make, made_by)


def make_all(app, *metadata):
    """Call `app.create_all()`, and make what *metadata* has beside, or bring both back."""

    def make():
        app.create_all()
        for one in metadata:
            one.create_all(app.engine)

    make_tables(app.engine, make, *shapes([*app.registry.metadata, *metadata]))


def keep_tables():
    """Let `StateJobs.create_all` find its tables where an earlier test left them."""
    create_all = StateJobs.create_all

    @wraps(create_all)
    def bring_all(self):
        self.store.refuse_closed()
        make = partial(create_all, self)
        make_tables(self.engine, make, "app", *shapes(self.registry.metadata))

    StateJobs.create_all = bring_all


def shapes(metadata):
    """*metadata*, each with what tells that somebody added to it since."""
    return [(one, *map(_shape, one.tables.values())) for one in metadata]


def _shape(table):
    return table.name, len(table.c), len(table.constraints), len(table.indexes)
