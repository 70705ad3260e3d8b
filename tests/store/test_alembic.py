"""statejobs inside a user's own Alembic project: real files, real `alembic` commands."""

import io
import re
from enum import StrEnum

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, create_engine, inspect, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs.alembic import alembic_options
from statejobs.declare.mixin import StatefulResource
from statejobs.declare.state_column import state_column
from statejobs.store.check_names import check_name
from statejobs.store.schema import check_tables, current, upgrade
from statejobs.store.tables import metadata
from statejobs.store.types import UtcDateTime
from tests.support.warm import run_alembic

STATES = ("draft", "queued", "processing", "completed", "failed", "cancelled")

MODELS = """
from datetime import datetime
from enum import StrEnum
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from statejobs.declare.context import JobContext
from statejobs.values.clock import utcnow
from statejobs.declare.state_column import state_column
from statejobs.declare.mixin import StatefulResource
from statejobs.declare.transition import transition
from statejobs.declare.trigger import Trigger
from statejobs.store.types import UtcDateTime

class Base(DeclarativeBase): ...

OrderState = StrEnum("OrderState", {{state.upper(): state for state in {states}}})
S = OrderState

class Order(StatefulResource, Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[int]
    coupon: Mapped[str | None]
    charged_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
    state: Mapped[OrderState] = state_column(
        OrderState, initial=S.DRAFT, final=(S.COMPLETED, S.CANCELLED)
    )

    charge = Trigger.on_demand("order.charge", queue="payments", max_attempts=5)

    @transition(S.DRAFT, S.QUEUED, run_trigger=charge)
    def submit(self, *, coupon: str | None = None) -> None:
        self.coupon = coupon

    @charge.action(S.QUEUED, S.COMPLETED, during=S.PROCESSING, failed=S.FAILED)
    def process_payment(self, ctx: JobContext) -> None:
        self.charged_at = ctx.now

    @transition(S.FAILED, S.QUEUED, run_trigger=charge)
    def retry(self) -> None: ...

    @transition([S.DRAFT, S.QUEUED, S.FAILED], S.CANCELLED)
    def cancel(self, reason: str) -> None: ...

class Item(Base):
    __tablename__ = "items"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id", ondelete="CASCADE"))
"""

# What a user adds to the env.py that `alembic init` wrote.
ENV = {
    "target_metadata = None": """
from models import Base
from statejobs.alembic import alembic_options
from statejobs.store.tables import metadata as statejobs_metadata
target_metadata = [Base.metadata, statejobs_metadata]
""",
    "target_metadata=target_metadata": "target_metadata=target_metadata, **alembic_options()",
}

# What a user adds for migrations of SQLite that happen whole or not at all.
ENV_ATOMIC = {
    "import alembic_options": "import alembic_options, atomic_migrations",
    "    with context.begin_transaction():\n            ": (
        "    with atomic_migrations(connection), context.begin_transaction():\n            "
    ),
}


class Project:
    """A directory with models.py and what `alembic init` makes."""

    def __init__(self, directory, url):
        self.directory = directory
        ini, env = directory / "alembic.ini", directory / "migrations/env.py"
        command.init(Config(ini, stdout=io.StringIO()), str(env.parent))
        ini.write_text(
            re.sub(
                "^sqlalchemy.url = .*",
                f"sqlalchemy.url = {url}",
                ini.read_text(),
                flags=re.MULTILINE,
            )
        )
        self.edit_env(ENV)
        self.declare(STATES)

    def edit_env(self, edits):
        env = self.directory / "migrations/env.py"
        source = env.read_text()
        for old, new in edits.items():
            assert old in source
            source = source.replace(old, new)
        env.write_text(source)

    def declare(self, states):
        """Let the orders have *states*."""
        (self.directory / "models.py").write_text(MODELS.format(states=tuple(states)))

    def migrate(self, name):
        """Autogenerate a revision, apply it, and return its source."""
        self.alembic_each(self._revision(name), ["upgrade", "head"])
        return self._source(name)

    def revise(self, name):
        self.alembic_each(self._revision(name))
        return self._source(name)

    def alembic(self, *arguments):
        """Run a command as a user would; return what it said."""
        return self.alembic_each(arguments)

    def alembic_each(self, *commands):
        """Run commands one after the other, in one process."""
        said = run_alembic(commands, self.directory)
        assert said.exit_code == 0, said.output
        return said.output

    def try_alembic(self, *arguments):
        return run_alembic([arguments], self.directory)

    def _revision(self, name):
        return ["revision", "--autogenerate", "-m", name]

    def write(self, name, source):
        """Change a revision by hand."""
        self._path(name).write_text(source)

    def _source(self, name):
        return self._path(name).read_text()

    def _path(self, name):
        (path,) = (self.directory / "migrations/versions").glob(f"*_{name}.py")
        return path


@pytest.fixture
def engine(database_url):
    engine = create_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def project(tmp_path, database_url):
    directory = tmp_path / "shop"
    directory.mkdir()
    return Project(directory, database_url)


# ---- a project from its first revision to a change of states -------------------------------------


def test_the_first_revision_makes_every_table_and_leaves_no_difference(project, engine):
    source = project.migrate("first")

    assert "No new upgrade operations" in project.alembic("check")
    assert "statejobs." not in source  # a migration must not change when statejobs does
    assert source.count("ck_orders_state_") == 1
    if engine.dialect.name == "postgresql":
        assert "autovacuum_vacuum_scale_factor=0.01" in options_of(
            engine, "statejobs_jobs"
        )
    check_tables(engine)
    assert current(engine) is None


def test_an_added_state_is_a_revision_that_exchanges_the_check(project, engine):
    project.migrate("first")
    add_order(engine, "draft")
    states = (*STATES, "refunded")
    project.declare(states)

    source = project.migrate("refunded")

    by, table = (
        ("batch_op", "") if engine.dialect.name == "sqlite" else ("op", "'orders', ")
    )
    assert operations(source) == [
        f"drop_constraint({by}.f('{name_of(STATES)}'), {table}type_='check')",
        f"create_check_constraint({by}.f('{name_of(states)}'), {table}\"state IN {states}\")",
    ]
    assert "No new upgrade operations" in project.alembic("check")
    add_order(engine, "refunded")
    assert states_held(engine) == ["draft", "refunded"]
    with pytest.raises(IntegrityError, match=name_of(states)):
        add_order(engine, "paid")


def test_a_timeout_that_is_added_is_a_revision_that_makes_its_index(project, engine):
    project.migrate("first")
    models = project.directory / "models.py"
    one = "    @transition(S.FAILED, S.QUEUED, run_trigger=charge)"
    assert one in models.read_text()
    models.write_text(
        models.read_text()
        .replace(one, one.replace(")", ", after=timedelta(hours=1))"))
        .replace("import datetime", "import datetime, timedelta")
    )

    source = project.migrate("timeout")

    (made,) = re.findall(r"create_index\((?:\w+\.f\()?'(\w+)'", source)
    found = inspect(engine).get_indexes("orders")
    assert made == "ix_orders_timeouts"
    assert [(index["name"], index["column_names"]) for index in found] == [
        (made, ["state", "state_changed_at", "id"])
    ]
    assert "No new upgrade operations" in project.alembic("check")


def test_a_check_may_be_added_without_reading_the_table(project, engine):
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite copies the table")
    project.migrate("first")
    project.declare((*STATES, "refunded"))
    source = project.revise("refunded")

    edited = re.sub(
        r"(create_check.*refunded.*)\)", r"\1, postgresql_not_valid=True)", source
    )
    project.write("refunded", edited)
    project.alembic("upgrade", "head")

    assert "No new upgrade operations" in project.alembic("check")
    with engine.begin() as connection:
        name = name_of((*STATES, "refunded"))
        is_valid = text("SELECT convalidated FROM pg_constraint WHERE conname = :name")
        assert connection.scalar(is_valid, {"name": name}) is False
        connection.execute(text(f"ALTER TABLE orders VALIDATE CONSTRAINT {name}"))
        assert connection.scalar(is_valid, {"name": name}) is True


def test_a_change_of_their_order_is_no_revision(project):
    project.migrate("first")
    project.declare(reversed(STATES))

    assert "No new upgrade operations" in project.alembic("check")


def test_removing_a_state_that_rows_hold_fails_with_the_constraint_named(
    project, engine
):
    project.declare((*STATES, "refunded"))
    project.migrate("first")
    add_order(engine, "refunded")
    project.declare(STATES)
    project.revise("without_refunded")

    failed = project.try_alembic("upgrade", "head")

    assert failed.exit_code == 1
    assert "IntegrityError" in failed.output
    assert name_of(STATES) in failed.output
    assert states_held(engine) == ["refunded"]


def test_after_the_rows_were_moved_the_state_can_be_removed(project, engine):
    project.edit_env(ENV_ATOMIC)
    project.declare((*STATES, "refunded"))
    project.migrate("first")
    add_order(engine, "refunded")
    project.declare(STATES)
    project.revise("without_refunded")
    project.try_alembic("upgrade", "head")

    with engine.begin() as connection:
        connection.execute(text("UPDATE orders SET state = 'cancelled'"))
    project.alembic("upgrade", "head")

    assert "No new upgrade operations" in project.alembic("check")
    assert "_alembic_tmp_orders" not in inspect(engine).get_table_names()
    with pytest.raises(IntegrityError, match=name_of(STATES)):
        add_order(engine, "refunded")


def test_rows_that_refer_to_a_record_survive_a_change_of_states(project, engine):
    project.edit_env(ENV_ATOMIC)
    project.migrate("first")
    add_order(engine, "draft")
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO items (order_id) SELECT id FROM orders"))
    project.declare((*STATES, "refunded"))

    project.migrate("refunded")

    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM items")) == 1


def test_tables_that_ours_upgraded_are_no_difference_for_the_users(project, engine):
    project.migrate("first")
    with engine.begin() as connection:
        metadata.drop_all(connection)

    upgrade(engine)

    assert "No new upgrade operations" in project.alembic("check")


# ---- what metadata makes and Alembic sees --------------------------------------------------------


def test_after_create_all_there_is_no_difference(engine):
    base = make_base("orders", STATES)
    create_all(engine, base)

    assert differences(engine, base) == []


def test_a_naming_convention_of_the_user_makes_no_difference(engine):
    convention = {
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
    }
    base = make_base("orders", STATES, naming_convention=convention)
    create_all(engine, base)

    assert differences(engine, base) == []
    assert checks(engine, "orders") == [name_of(STATES)]


def test_without_our_options_a_change_of_states_goes_unseen(engine):
    create_all(engine, make_base("orders", STATES))
    base = make_base("orders", (*STATES, "refunded"))

    assert differences(engine, base, options={}) == []
    assert [change[0] for change in differences(engine, base)] == [
        "remove_constraint",
        "add_constraint",
    ]


@pytest.mark.parametrize(
    "states",
    [
        ("it's", "50% done", "on :hold", "a) b (", 'say "x"', "a\\b", "c, d"),
        ("před", "後"),
    ],
)
def test_any_text_can_be_a_state(engine, states):
    base = make_base("orders", states)
    create_all(engine, base)

    for state in states:
        add_row(engine, base, state)

    assert states_held(engine) == sorted(states)
    assert differences(engine, base) == []


@pytest.mark.parametrize("column", ["order", "State", "the state", "50%", "end"])
def test_any_name_can_be_a_state_column(engine, column):
    base = make_base("orders", STATES, column=column)
    create_all(engine, base)

    add_row(engine, base, "draft")

    with pytest.raises(IntegrityError, match="ck_orders_"):
        add_row(engine, base, "nonsense")
    assert differences(engine, base) == []


@pytest.mark.parametrize("table", ["o" * 55, "objednávky_" * 5])
def test_the_name_of_the_check_fits_postgresql(engine, table):
    base = make_base(table, STATES)
    create_all(engine, base)

    (name,) = checks(engine, table)
    assert len(name.encode()) <= 63
    assert differences(engine, base) == []
    assert [
        change[0] for change in differences(engine, make_base(table, STATES[:3]))
    ] == [
        "remove_constraint",
        "add_constraint",
    ]


def test_a_copied_table_has_one_check(engine):
    copy = MetaData()
    for table in make_base("orders", STATES).metadata.tables.values():
        table.to_metadata(copy)

    copy.create_all(engine)

    assert checks(engine, "orders") == [name_of(STATES)]


def test_a_state_column_on_a_mixin_gives_every_table_its_check(engine):
    state_type = StrEnum("OrderState", {state.upper(): state for state in STATES})

    class Base(DeclarativeBase):
        pass

    class WithState:
        state: Mapped[state_type] = state_column(
            state_type, initial=state_type.DRAFT, final=tuple(state_type)[1:]
        )

    for table in ("orders", "offers"):
        annotations = {"id": Mapped[int]}
        names = {"__tablename__": table, "id": mapped_column(primary_key=True)}
        type(table, (WithState, Base), {**names, "__annotations__": annotations})
    Base.metadata.create_all(engine)

    assert checks(engine, "orders") == [check_name("orders", "state", STATES)]
    assert checks(engine, "offers") == [check_name("offers", "state", STATES)]


def test_types_that_are_not_ours_are_rendered_by_alembic():
    render = alembic_options()["render_item"]

    assert render("type", metadata.tables["statejobs_jobs"].c.id.type, None) is False
    assert render("column", UtcDateTime(), None) is False


# ---- helpers -------------------------------------------------------------------------------------


def name_of(states):
    return check_name("orders", "state", states)


def operations(source):
    """What the upgrade of a revision does, without Alembic's decoration."""
    body = source.partition("def upgrade()")[2].partition("def downgrade()")[0]
    return re.findall(r"^\s+(?:batch_op|op)\.(\w+\(.*\))$", body, flags=re.MULTILINE)


def make_base(table, states, *, column="state", naming_convention=None):
    """Return a base with one resource."""
    state_type = StrEnum("State", {f"S{i}": state for i, state in enumerate(states)})
    initial, *others = state_type

    class Base(DeclarativeBase):
        metadata = MetaData(naming_convention=naming_convention)

    class Order(StatefulResource, Base):
        __tablename__ = table
        id: Mapped[int] = mapped_column(primary_key=True)
        state: Mapped[state_type] = state_column(
            state_type, initial=initial, final=tuple(others), name=column
        )

    return Base


def create_all(engine, base):
    base.metadata.create_all(engine)
    metadata.create_all(engine)


def differences(engine, base, options=None):
    """What autogenerate would write for a user."""
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts=alembic_options() if options is None else options
        )
        return compare_metadata(context, [base.metadata, metadata])


def checks(engine, table):
    """Names of the CHECK constraints of *table*, duplicates included."""
    return [check["name"] for check in inspect(engine).get_check_constraints(table)]


def add_row(engine, base, state):
    """Write *state* past the mapped class."""
    (table,) = base.metadata.tables.values()
    names = [engine.dialect.identifier_preparer.quote(c.name) for c in table.columns][
        1:3
    ]
    with engine.begin() as connection:
        connection.exec_driver_sql(
            f"INSERT INTO orders ({', '.join(names)}) VALUES (%s, 0)".replace(
                "%s", "?" if engine.dialect.name == "sqlite" else "%s"
            ),
            (state,),
        )


def options_of(engine, table):
    with engine.connect() as connection:
        asked = text("SELECT reloptions FROM pg_class WHERE relname = :table")
        return connection.scalar(asked, {"table": table})


def add_order(engine, state):
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO orders (total, created_at, state, state_version) "
                "VALUES (42, '2026-01-01 00:00:00', :state, 0)"
            ),
            {"state": state},
        )


def states_held(engine):
    with engine.connect() as connection:
        return sorted(connection.scalars(text("SELECT state FROM orders")))
