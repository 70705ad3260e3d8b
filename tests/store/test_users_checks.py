"""CHECK constraints of a user beside ours, in autogenerate."""

from enum import StrEnum
from types import SimpleNamespace

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Enum,
    Integer,
    MetaData,
    create_engine,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import StatefulResource, UtcDateTime, state_column
from statejobs.alembic import alembic_options
from statejobs.store.tables import metadata

CONVENTIONS = [None, {"ck": "ck_%(table_name)s_%(constraint_name)s"}]
BY_NAME = ("alembic.ext.checkconstraint_byname",)
EXCHANGED = ["remove_constraint", "add_constraint"]


class Size(StrEnum):
    SMALL = "small"
    LARGE = "large"


def make_base(states, *, column="state", convention=None):
    state_type = StrEnum("State", {state.upper(): state for state in states})
    initial, *final = state_type

    class Base(DeclarativeBase):
        metadata = MetaData(naming_convention=convention)

    class Order(StatefulResource, Base):
        __tablename__ = "orders"
        __table_args__ = (CheckConstraint("qty < 1000", name=convention and "few"),)

        id: Mapped[int] = mapped_column(primary_key=True)
        flag: Mapped[bool] = mapped_column(
            Boolean(create_constraint=True, name="flagged")
        )
        size: Mapped[Size] = mapped_column(
            Enum(Size, native_enum=False, create_constraint=True, name="sized")
        )
        qty: Mapped[int] = mapped_column(
            Integer, CheckConstraint("qty > 0", name="some")
        )
        state: Mapped[state_type] = state_column(
            state_type, initial=initial, final=tuple(final), name=column
        )

    class Plain(Base):
        __tablename__ = "plain"
        id: Mapped[int] = mapped_column(primary_key=True)
        flag: Mapped[bool] = mapped_column(
            Boolean(create_constraint=True, name="plainly")
        )
        a: Mapped[int] = mapped_column(
            Integer, CheckConstraint("a > 0", name=convention and "above")
        )

    return Base


@pytest.fixture
def engine(database_url):
    engine = create_engine(database_url)
    yield engine
    engine.dispose()


def create_all(engine, base):
    base.metadata.create_all(engine)
    metadata.create_all(engine)


def differences(engine, base, **options):
    return [change[0] for change in changes(engine, base, **options)]


def changes(engine, base, **options):
    opts = {**alembic_options(), **options}
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=opts)
        return compare_metadata(context, [base.metadata, metadata])


@pytest.mark.parametrize(
    "convention", CONVENTIONS, ids=["named by hand", "by convention"]
)
def test_constraints_of_the_user_make_no_difference(engine, convention):
    base = make_base(["open", "paid"], convention=convention)

    create_all(engine, base)

    assert differences(engine, base) == []


@pytest.mark.parametrize(
    "convention", CONVENTIONS, ids=["named by hand", "by convention"]
)
def test_a_change_of_states_is_the_only_difference_beside_them(engine, convention):
    create_all(engine, make_base(["open", "paid"], convention=convention))

    base = make_base(["open", "paid", "lost"], convention=convention)

    assert differences(engine, base) == EXCHANGED


def test_constraints_that_only_the_database_has_are_left_alone(engine):
    base = make_base(["open", "paid"])
    create_all(engine, base)
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(
                text("ALTER TABLE orders ADD CONSTRAINT mine CHECK (qty != 13)")
            )
            connection.execute(
                text("ALTER TABLE statejobs_jobs ADD CONSTRAINT mine CHECK (id>0)")
            )

    assert differences(engine, base) == []


def test_the_check_of_a_renamed_state_column_goes_with_it(engine):
    create_all(engine, make_base(["open", "paid"]))

    found = differences(engine, make_base(["open", "paid"], column="status"))

    assert [change for change in found if "constraint" in change] == EXCHANGED


def test_whoever_compares_all_checks_gets_ours_once(engine):
    create_all(engine, make_base(["open", "paid"], convention=CONVENTIONS[1]))
    base = make_base(["open", "paid", "lost"], convention=CONVENTIONS[1])

    found = changes(engine, base, **alembic_options(autogenerate_plugins=BY_NAME))

    ours = [
        change[0] for change in found if change[1].name.startswith("ck_orders_state_")
    ]
    assert ours == EXCHANGED


def test_the_users_filter_of_objects_is_asked(engine):
    create_all(engine, make_base(["open", "paid"]))
    base = make_base(["open", "paid", "lost"])

    def no_checks(_item, _name, kind, _reflected, _other):
        return kind != "check_constraint"

    assert differences(engine, base, include_object=no_checks) == []


def test_the_users_render_item_is_asked_for_everything_but_our_types():
    context = SimpleNamespace(opts={"sqlalchemy_module_prefix": "sa."})
    options = alembic_options(render_item=lambda kind, _item, _context: f"mine.{kind}")
    render = options["render_item"]

    assert render("type", Boolean(), context) == "mine.type"
    assert render("server_default", UtcDateTime(), context) == "mine.server_default"
    assert render("type", UtcDateTime(), context) == "sa.DateTime(timezone=True)"


def test_nothing_forces_batches_on_postgresql():
    assert "render_as_batch" not in alembic_options()


def test_the_users_render_item_is_asked_for_types_of_sqlmodel_as_well():
    sqlmodel = pytest.importorskip("sqlmodel")
    context = SimpleNamespace(opts={"sqlalchemy_module_prefix": "sa."})
    options = alembic_options(render_item=lambda _kind, _item, _context: "mine")

    assert options["render_item"]("type", sqlmodel.AutoString(), context) == "mine"
    assert alembic_options()["render_item"](
        "type", sqlmodel.AutoString(9), context
    ) == ("sa.String(length=9)")
