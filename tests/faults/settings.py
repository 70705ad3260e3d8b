"""The suite on a server whose defaults are others, or that lets few in: a plugin of pytest.

    pytest -p tests.faults.settings --database-setting lock_timeout=200ms tests/runner

Nothing fails here that does not fail without it: no test may tell the difference, but for those
that `TELLING` names with the reason.
"""

import os
from dataclasses import dataclass

from psycopg import sql
from sqlalchemy import make_url

from statejobs.store.engines import factory
from tests.support.postgres import PostgresDatabases

ISOLATION = "default_transaction_isolation"
CONNECTIONS = "connections"
TIMEOUTS = "lock_timeout", "statement_timeout"


@dataclass(frozen=True)
class Telling:
    """Tests that may tell the difference: what they assert is not promised on such a server."""

    reason: str
    settings: tuple[str, ...]
    """Under which of them the tests are left out."""
    tests: frozenset[str]
    """By name; or modules, where each test needs what is refused."""


TELLING = (
    Telling(
        "they count statements, and where the defaults are hostile ours are begun and committed",
        settings=(ISOLATION, *TIMEOUTS),
        tests=frozenset(
            {
                "test_a_body_that_only_read_ends_without_a_transaction",
                "test_a_body_that_wrote_nothing_ends_with_one_statement",
                "test_an_async_task_that_wrote_nothing_ends_with_one_statement",
            }
        ),
    ),
    Telling(
        "a session of a user waits for a row, and then the server refuses it, as it must",
        settings=(ISOLATION, "lock_timeout"),
        tests=frozenset(
            {"test_of_two_that_lock_what_they_read_the_second_waits_and_sees"}
        ),
    ),
    Telling(
        "two workers, idle commits or the test itself take more connections than there are",
        settings=(CONNECTIONS,),
        tests=frozenset(
            {
                "test_finishes_that_wait_leave_a_connection_where_the_pool_is_used_up",
                "test_a_node_whose_clock_is_wrong_takes_no_live_job_and_loses_none_of_its_own",
                "test_no_body_runs_while_too_many_wait_for_their_commit",
                "test_no_live_job_is_taken_for_dead_beside_a_lock_that_outlasts_its_lease",
            }
        ),
    ),
    Telling(
        "the role that the tests use is limited: it may make no others, and is told of",
        settings=(CONNECTIONS,),
        tests=frozenset(
            {
                "test_a_limit_that_is_tight_is_said_and_served",
                "test_the_limit_of_a_role_is_found_without_a_pool",
                "test_a_limit_that_leaves_no_connection_for_jobs_is_refused_by_its_number",
                "test_an_unlimited_role_is_asked_nothing",
                "test_row_security_that_hides_a_record_is_named",
                "test_too_many_connections_pause_claims_and_count_nothing",
                "tests.runner.test_hidden_records",
            }
        ),
    ),
)

ROLE = f"statejobs_limited_{os.environ.get('PYTEST_XDIST_WORKER', '')}"
"""Each process of a test run has its own, since the limit is one of the role."""


def pytest_addoption(parser):
    group = parser.getgroup("settings")
    group.addoption(
        "--database-setting",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a default of every database, as ALTER DATABASE … SET; may be given several times",
    )
    group.addoption(
        "--pool-size", type=int, help="connections of each pool, and no more"
    )
    group.addoption(
        "--connection-limit", type=int, help="connections that the server accepts"
    )


def pytest_configure(config):
    settings = [one.split("=", 1) for one in config.getoption("--database-setting")]
    limit = config.getoption("--connection-limit")
    _give_settings(settings)
    if limit is not None:
        _limit_connections(limit)
    if config.getoption("--pool-size") is not None:
        _limit_pools(config.getoption("--pool-size"))


def pytest_collection_modifyitems(config, items):
    """Leave SQLite alone, which has none of these; and tests that may tell the difference."""
    given = {one.split("=", 1)[0] for one in config.getoption("--database-setting")}
    if config.getoption("--connection-limit") is not None:
        given.add(CONNECTIONS)
    may_tell = {
        test for one in TELLING if given & {*one.settings} for test in one.tests
    }
    kept, left = [], []
    for item in items:
        is_served = (
            item.get_closest_marker("postgres") or "postgres_url" in item.fixturenames
        )
        is_told = {item.originalname, item.module.__name__} & may_tell
        (kept if is_served and not is_told else left).append(item)
    config.hook.pytest_deselected(items=left)
    items[:] = kept


def set_default(server, database, setting, value):
    """Give *database* a default of its own, for sessions that begin from now on."""
    statement = sql.SQL("ALTER DATABASE {} SET {} TO {}")
    parts = sql.Identifier(database), sql.Identifier(setting), sql.Literal(value)
    server._execute(statement.format(*parts))


def limit_connections(server, url, limit):
    """Let the database of *url* have *limit* connections; return the URL of one whom that binds."""
    database, role = sql.Identifier(url.database), sql.Identifier(ROLE)
    make = (
        "DO $$ BEGIN CREATE ROLE {} LOGIN; EXCEPTION WHEN duplicate_object THEN END $$"
    )
    server._execute(sql.SQL(make).format(role))
    server._execute(
        sql.SQL("ALTER ROLE {} CONNECTION LIMIT {}").format(role, sql.Literal(limit))
    )
    server._execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, role))
    server._execute(
        sql.SQL(
            "DO $$ DECLARE name text; BEGIN FOR name IN SELECT tablename FROM pg_tables "
            "WHERE schemaname = 'public' LOOP EXECUTE format('ALTER TABLE %I OWNER TO {}', name); "
            "END LOOP; END $$"
        ).format(role),
        database=url.database,
    )
    return url.set(username=ROLE)


def _give_settings(settings):
    """Set the defaults of every database that the tests make, or make as good as new."""
    create, empty = PostgresDatabases.create_database, PostgresDatabases.empty_database

    def apply(self, name):
        for setting, value in settings:
            set_default(self, name, setting, value)

    def create_database(self, name, **options):
        create(self, name, **options)
        apply(self, name)

    def empty_database(self, name, **options):
        empty(self, name, **options)
        apply(self, name)

    PostgresDatabases.create_database = create_database
    PostgresDatabases.empty_database = empty_database


def _limit_connections(limit):
    """Let every database be used through a role that owns it, and may connect so often."""
    create, url = PostgresDatabases.create_database, PostgresDatabases.url

    def create_database(self, name, **options):
        create(self, name, **options)
        limit_connections(self, make_url(url(self, name)), limit)

    def limited_url(self, database="postgres"):
        found = make_url(url(self, database))
        if database != "postgres":
            found = found.set(username=ROLE)
        return found.render_as_string(hide_password=False)

    PostgresDatabases.create_database = create_database
    PostgresDatabases.url = limited_url


def _limit_pools(size):
    create_engine = factory.create_engine

    def create_small_engine(url, **options):
        if url.get_backend_name() == "postgresql":
            options |= {"pool_size": size, "max_overflow": 0, "pool_timeout": 5}
        return create_engine(url, **options)

    factory.create_engine = create_small_engine
