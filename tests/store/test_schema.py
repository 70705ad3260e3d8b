"""The schema that the metadata makes, the schema that the migrations make, and the way between."""

import os
import shutil
import subprocess
import sys
from argparse import Namespace
from datetime import timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, insert, inspect, make_url, text
from sqlalchemy.exc import OperationalError

from statejobs.errors import SchemaError
from statejobs.store import schema
from statejobs.store.engines.addresses import shown_url
from statejobs.store.engines.factory import open_engine
from statejobs.store.schema import (
    HEAD,
    alembic_options,
    check_tables,
    create_tables,
    current,
    upgrade,
)
from statejobs.store.store import working_engine
from statejobs.store.tables import VERSION_TABLE, metadata, nodes
from tests.support.clock import NOON

ROOT = Path(__file__).parents[2]
MIGRATIONS = ROOT / "migrations"

CATALOGUES = {
    "sqlite": [
        "SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'index'",
        """
        SELECT t.name, c.cid, c.name, c.type, c."notnull", c.dflt_value, c.pk
        FROM sqlite_master AS t, pragma_table_info(t.name) AS c WHERE t.type = 'table'
        """,
    ],
    "postgresql": [
        """
        SELECT r.relname, a.attname, a.attnum, format_type(a.atttypid, a.atttypmod), a.attnotnull,
            a.attidentity, pg_get_expr(d.adbin, d.adrelid)
        FROM pg_attribute a JOIN pg_class r ON r.oid = a.attrelid
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attnum > 0 AND r.relnamespace = 'public'::regnamespace
        """,
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
        """
        SELECT conname, conrelid::regclass::text, contype, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace
        """,
        """
        SELECT relname, relkind, reloptions FROM pg_class
        WHERE relnamespace = 'public'::regnamespace
        """,
    ],
}

UPGRADE = """
import sys
import alembic.command
from statejobs.store.engines.factory import open_engine
from statejobs.store.schema import {function} as make

engine = open_engine({url!r})
print("ready", flush=True)
sys.stdin.readline()
make(engine)
"""


@pytest.fixture
def engine(database_url):
    """A fresh database, as an app opens it."""
    engine = open_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def user_engine(database_url):
    """The same database, through an engine that statejobs knows nothing of."""
    engine = create_engine(database_url)
    yield engine
    engine.dispose()


# ---- metadata and migrations -------------------------------------------------------------------


def test_the_migrations_make_what_the_metadata_makes(engine):
    upgrade(engine)
    migrated = read_catalogue(engine)
    drop_tables(engine)
    metadata.create_all(engine)

    assert migrated == read_catalogue(engine)


def test_alembic_sees_no_difference_after_the_migrations(engine):
    upgrade(engine)

    assert differences(engine) == []


def test_alembic_would_see_a_difference(engine):
    upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("DROP INDEX ix_statejobs_jobs_claim"))

    assert [change[0] for change in differences(engine)] == ["add_index"]


def test_dead_rows_of_a_busy_table_are_cleared_soon(engine):
    upgrade(engine)

    if engine.dialect.name == "postgresql":
        assert "autovacuum_vacuum_scale_factor=0.01" in str(read_catalogue(engine))


def test_head_is_the_newest_of_sortable_revisions():
    script = ScriptDirectory(str(MIGRATIONS))
    newest_first = [found.revision for found in script.walk_revisions()]

    assert script.get_heads() == [HEAD]
    assert newest_first == sorted(newest_first, reverse=True)
    assert all(revision.isdigit() and len(revision) == 4 for revision in newest_first)


def test_a_developer_autogenerates_only_what_changed_in_our_tables(
    database_url, tmp_path
):
    shutil.copytree(MIGRATIONS, tmp_path / "migrations")
    config = Config(cmd_opts=Namespace(x=[f"url={database_url}"]))
    config.set_main_option("script_location", str(tmp_path / "migrations"))
    command.upgrade(config, "head")
    engine = open_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE orders (id INTEGER PRIMARY KEY)"))
        connection.execute(text("ALTER TABLE statejobs_nodes DROP COLUMN host"))
    engine.dispose()

    command.revision(config, "Put the host back", autogenerate=True, rev_id="0006")

    written = (tmp_path / "migrations/versions/0006_put_the_host_back.py").read_text()
    assert "add_column(" in written
    assert "sa.Column('host', sa.Text(), nullable=False))" in written
    assert "orders" not in written
    assert VERSION_TABLE not in written


# ---- upgrade -----------------------------------------------------------------------------------


def test_upgrading_twice_changes_nothing(engine):
    upgrade(engine)
    before = read_catalogue(engine)

    upgrade(engine)

    assert read_catalogue(engine) == before
    assert current(engine) == HEAD


def test_upgrading_after_create_tables_changes_nothing(engine):
    create_tables(engine)
    before = read_catalogue(engine)

    upgrade(engine)

    assert read_catalogue(engine) == before
    assert current(engine) == HEAD


@pytest.mark.parametrize("function", ["upgrade", "create_tables"])
def test_processes_that_make_the_tables_at_once_all_succeed(
    database_url, engine, function
):
    assert inspect(engine).get_table_names() == []  # this also makes the file of SQLite
    script = UPGRADE.format(function=function, url=database_url)
    processes = [start_python(script) for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"

    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()

    assert [
        (process.communicate()[1], process.returncode) for process in processes
    ] == [("", 0)] * 3
    check_tables(engine)
    assert current(engine) == HEAD


def test_a_migration_that_fails_leaves_nothing_behind(engine, tmp_path, monkeypatch):
    broken = shutil.copytree(MIGRATIONS, tmp_path / "migrations")
    (broken / "versions/0006_broken.py").write_text(
        "from alembic import op\n"
        "revision, down_revision = '0006', '0005'\n"
        "def upgrade():\n"
        "    op.drop_index('ix_statejobs_jobs_due', 'statejobs_jobs')\n"
        "    raise ZeroDivisionError\n"
    )
    monkeypatch.setattr(schema, "_find_migrations", lambda: broken)

    with pytest.raises(ZeroDivisionError):
        upgrade(engine)

    assert inspect(engine).get_table_names() == []


def test_a_migration_that_is_killed_half_way_leaves_nothing_behind(
    database_url, tmp_path
):
    killed = shutil.copytree(MIGRATIONS, tmp_path / "migrations")
    (killed / "versions/0006_killed.py").write_text(
        "import os, signal\n"
        "revision, down_revision = '0006', '0005'\n"
        "def upgrade():\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    process = start_python(
        "from pathlib import Path\n"
        "from statejobs.store import schema; from statejobs.store.engines import factory\n"
        f"schema._find_migrations = lambda: Path({str(killed)!r})\n"
        f"schema.upgrade(factory.open_engine({database_url!r}))\n"
    )

    assert process.wait() == -9
    process.communicate()

    engine = open_engine(database_url)
    assert inspect(engine).get_table_names() == []
    upgrade(engine)
    check_tables(engine)
    engine.dispose()


def test_every_kind_of_engine_can_upgrade(engine, user_engine):
    upgrade(user_engine)
    upgrade(working_engine(engine))

    create_tables(working_engine(engine))
    check_tables(working_engine(engine))
    assert current(user_engine) == HEAD


def test_a_repeatable_read_engine_sees_what_the_last_upgrade_did(postgres_url):
    engine = create_engine(postgres_url, isolation_level="REPEATABLE READ")
    script = UPGRADE.format(function="upgrade", url=postgres_url)
    with schema.migration_transaction(engine) as connection:
        waiting = start_python(
            script.replace("open_engine(", "strict_engine("), STRICT_ENGINE
        )
        assert waiting.stdout.readline() == "ready\n"
        waiting.stdin.write("go\n")
        waiting.stdin.flush()
        wait_until_blocked(engine)
        metadata.create_all(connection)
        connection.execute(text(f"INSERT INTO {VERSION_TABLE} VALUES ('{HEAD}')"))

    assert waiting.communicate()[1] == ""
    engine.dispose()


def test_sql_is_printed_and_the_database_not_touched(engine, user_engine, capsys):
    upgrade(engine, sql=True)
    printed = capsys.readouterr().out

    assert inspect(engine).get_table_names() == []
    run_script(user_engine, printed)
    check_tables(engine)
    assert current(engine) == HEAD
    assert differences(engine) == []


def test_sql_from_one_revision_to_another_holds_only_what_is_between(engine, capsys):
    upgrade(engine, f"{HEAD}:head", sql=True)

    assert capsys.readouterr().out.split() == ["BEGIN;", "COMMIT;"]


def test_nothing_else_is_printed(engine, capsys):
    upgrade(engine)
    create_tables(engine)
    check_tables(engine)
    current(engine)

    assert capsys.readouterr() == ("", "")


def test_an_unknown_revision_is_an_error(engine):
    with pytest.raises(SchemaError) as caught:
        upgrade(engine, "0815")

    assert str(caught.value) == (
        "cannot upgrade to '0815': Can't locate revision identified by '0815'"
    )
    assert inspect(engine).get_table_names() == []


def test_the_environment_of_the_wheel_is_found_first(tmp_path):
    package = shutil.copytree(ROOT / "statejobs", tmp_path / "statejobs")
    shutil.copytree(MIGRATIONS, package / "migrations")
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    script = (
        "from statejobs.store import schema; from statejobs.store.engines import factory\n"
        "print(schema._find_migrations())\n"
        f"schema.upgrade(factory.open_engine({url!r}))\n"
    )
    process = start_python(script, path=tmp_path)

    assert process.communicate() == (f"{package / 'migrations'}\n", "")
    engine = open_engine(url)
    check_tables(engine)
    engine.dispose()


def test_the_environment_may_lie_in_a_directory_with_a_percent_sign(
    engine, tmp_path, monkeypatch
):
    odd = shutil.copytree(MIGRATIONS, tmp_path / "100%s: odd")
    monkeypatch.setattr(schema, "_find_migrations", lambda: odd)

    upgrade(engine)

    assert current(engine) == HEAD


def test_only_upgrading_imports_alembic(sqlite_url):
    process = start_python(
        "import sys\n"
        "from statejobs.store import schema; from statejobs.store.engines import factory\n"
        f"engine = factory.open_engine({sqlite_url!r})\n"
        "schema.create_tables(engine)\n"
        "schema.check_tables(engine)\n"
        "schema.current(engine)\n"
        "print('alembic' in sys.modules)\n"
    )

    assert process.communicate() == ("False\n", "")


# ---- schemas of PostgreSQL ---------------------------------------------------------------------


@pytest.mark.parametrize("make", [create_tables, upgrade])
@pytest.mark.parametrize("how", ["schema_translate_map", "search_path"])
def test_the_tables_may_live_in_a_schema(postgres_url, make, how):
    plain = create_engine(postgres_url)
    with plain.begin() as connection:
        connection.execute(text("CREATE SCHEMA shop"))
    # tables in `public` must not be mistaken for those of the schema
    create_tables(plain)
    engine = schema_engine(postgres_url, how)

    make(engine)
    make(engine)

    check_tables(engine)
    assert current(engine) == HEAD
    assert set(inspect(plain).get_table_names("shop")) == set(metadata.tables)
    for each in (plain, engine):
        each.dispose()


# ---- check_tables ------------------------------------------------------------------------------


def test_tables_that_were_created_or_migrated_pass(engine):
    create_tables(engine)
    check_tables(engine)
    drop_tables(engine)
    upgrade(engine)

    check_tables(engine)


def test_missing_tables_are_an_error_that_names_both_ways(engine):
    with pytest.raises(SchemaError) as caught:
        check_tables(engine)

    assert str(caught.value) == (
        f"{shown(engine)} lacks the tables statejobs_attempts, statejobs_jobs, statejobs_nodes, "
        "statejobs_schedules, statejobs_ticks, statejobs_transitions, statejobs_version. "
        "Make them with `statejobs db upgrade`; "
        "for SQLite, demos and tests, jobs.create_all() does too"
    )


def test_one_missing_table_is_an_error_and_create_tables_puts_it_back(engine):
    upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE statejobs_nodes"))

    with pytest.raises(SchemaError, match="lacks the tables statejobs_nodes"):
        check_tables(engine)

    create_tables(engine)
    check_tables(engine)


def test_older_tables_are_an_error_that_says_upgrade(engine):
    create_tables(engine)
    set_revision(engine, "0000")
    message = (
        f"the tables of {shown(engine)} are at revision 0000, "
        f"this version of statejobs needs {HEAD}; run `statejobs db upgrade`"
    )

    for check in (check_tables, create_tables):
        with pytest.raises(SchemaError) as caught:
            check(engine)
        assert str(caught.value) == message


def test_newer_tables_are_an_error_that_says_install(engine):
    create_tables(engine)
    set_revision(engine, "9999")
    message = (
        f"the tables of {shown(engine)} are at revision 9999, which this version of statejobs "
        f"does not know (its own is {HEAD}): it is older than the database. "
        "Install the statejobs that upgraded it, or a newer one"
    )

    for check in (check_tables, create_tables, upgrade):
        with pytest.raises(SchemaError) as caught:
            check(engine)
        assert str(caught.value) == message


def test_tables_of_the_users_own_alembic_pass_without_a_revision(engine):
    metadata.create_all(engine)

    create_tables(engine)
    check_tables(engine)

    assert current(engine) is None


def test_old_tables_of_the_users_own_alembic_are_an_error(engine):
    metadata.create_all(engine)
    with engine.begin() as connection:
        for column in ("progress", "checkpoint"):
            connection.execute(text(f"ALTER TABLE statejobs_jobs DROP COLUMN {column}"))

    with pytest.raises(SchemaError) as caught:
        check_tables(engine)

    assert str(caught.value) == (
        f"{shown(engine)} lacks the columns statejobs_jobs.progress, statejobs_jobs.checkpoint, "
        "and its statejobs_version is empty: your own Alembic has these tables. "
        "Run `alembic revision --autogenerate`, then `alembic upgrade head`"
    )


def test_tables_of_the_users_own_alembic_are_not_migrated_by_ours(engine):
    metadata.create_all(engine)

    with pytest.raises(SchemaError) as caught:
        upgrade(engine)

    assert str(caught.value) == (
        f"{shown(engine)} has tables of statejobs, but its statejobs_version is empty: "
        "your own Alembic, or metadata.create_all(), made them. "
        "Upgrade them there: `alembic revision --autogenerate`, then `alembic upgrade head`"
    )


def test_an_error_shows_no_password():
    url = make_url("postgresql+psycopg://shop:hunter2@db/shop?password=hunter2")

    assert schema._name(create_engine(url)) == "postgresql://shop:***@db/shop"


# ---- helpers -----------------------------------------------------------------------------------

STRICT_ENGINE = """
from sqlalchemy import create_engine
def strict_engine(url):
    return create_engine(url, isolation_level="REPEATABLE READ")
"""


def read_catalogue(engine):
    """Everything that the database says about its tables, and nothing about their history."""
    with engine.connect() as connection:
        catalogue = [
            sorted(map(repr, connection.execute(text(query))))
            for query in CATALOGUES[engine.dialect.name]
        ]
        # a column that SQLite adds stands behind the constraints in the text of its table
        checks = inspect(connection).get_multi_check_constraints()
        return [*catalogue, sorted(map(repr, checks.items()))]


def differences(engine):
    """What Alembic would change, looking as closely as it can."""
    options = {
        "compare_type": True,
        "compare_server_default": True,
        "autogenerate_plugins": alembic_options()["autogenerate_plugins"],
    }
    with engine.connect() as connection:
        return compare_metadata(
            MigrationContext.configure(connection, opts=options), metadata
        )


def drop_tables(engine):
    metadata.drop_all(engine)


def set_revision(engine, revision):
    with engine.begin() as connection:
        connection.execute(
            text(f"UPDATE {VERSION_TABLE} SET version_num = '{revision}'")
        )


def shown(engine):
    return shown_url(engine.url)


def start_python(script, *setup, path=ROOT):
    return subprocess.Popen(
        [sys.executable, "-c", "".join((*setup, script))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(path)},
        cwd="/",
    )


def wait_until_blocked(engine):
    """Wait until some connection waits for our lock."""
    query = text(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not connection.scalar(query):
            pass


def run_script(engine, script):
    """Run a script as the database's own shell would."""
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        if engine.dialect.name == "sqlite":
            driver.executescript(script)
        else:
            driver.execute(script)


def schema_engine(url, how):
    if how == "search_path":
        return create_engine(url, connect_args={"options": "-csearch_path=shop"})
    return create_engine(
        url, execution_options={"schema_translate_map": {None: "shop"}}
    )


# Beside workers of the old version ---------------------------------------------------------------

BEFORE_UNIQUE_KEYS = "0003"
OLD_ENQUEUE = """
INSERT INTO statejobs_jobs (key, queue, priority, state, run_at, args, dedupe_key,
    idempotency_key, tags, max_attempts, enqueued_at)
VALUES ('order.charge', 'default', 0, 'queued', '2030-01-01', '{}', 'order.charge:1', 'i', '[]',
    5, '2030-01-01')
ON CONFLICT (dedupe_key) WHERE state != 'completed'
DO UPDATE SET coalesced = statejobs_jobs.coalesced + 1
RETURNING coalesced
"""


@pytest.fixture
def beside_a_worker(database_url):
    """An engine on tables of the old version, and a worker that has just told that it lives."""
    engine = open_engine(database_url)
    upgrade(engine, BEFORE_UNIQUE_KEYS)
    row = {
        "id": "n",
        "host": "box",
        "pid": 7,
        "queues": "{}",
        "version": "0",
        "started_at": NOON,
        "beat_at": NOON,
    }
    with engine.begin() as connection:
        connection.execute(insert(nodes).values(row))
    yield engine
    engine.dispose()


def test_sqlite_is_not_upgraded_while_a_worker_is_alive(beside_a_worker):
    engine = beside_a_worker
    lease = timedelta(seconds=30)
    if engine.dialect.name == "postgresql":
        upgrade(engine, alive_since=NOON - lease)
        assert current(engine) == HEAD
        return

    with pytest.raises(SchemaError) as refused:
        upgrade(engine, alive_since=NOON - lease)

    assert str(refused.value) == (
        f"cannot upgrade {shown_url(engine.url)} while a worker is alive: box:7: on SQLite old "
        "code cannot enqueue on the new index. Stop the workers, and whatever else enqueues "
        "there, and run it again; one that was killed is forgotten when its lease is over"
    )
    assert current(engine) == BEFORE_UNIQUE_KEYS
    upgrade(engine, alive_since=NOON + timedelta(microseconds=1))
    upgrade(engine, alive_since=NOON - lease)  # there is nothing to do
    assert current(engine) == HEAD


def test_old_code_enqueues_on_new_tables_on_postgresql_only(beside_a_worker):
    engine = beside_a_worker
    upgrade(engine)

    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            with pytest.raises(
                OperationalError, match="ON CONFLICT clause does not match"
            ):
                connection.execute(text(OLD_ENQUEUE))
            return
        counts = [connection.scalar(text(OLD_ENQUEUE)) for _ in range(2)]
        connection.execute(
            text(
                "UPDATE statejobs_jobs SET state = 'completed', unique_until = '2030-01-02'"
            )
        )
        # also while the key of a completed job is held, which old code takes for its own
        counts.append(connection.scalar(text(OLD_ENQUEUE)))

    assert counts == [0, 1, 2]
