"""A table that has rows becomes one of records: autogenerate, then `upgrade`, on those rows."""

import pytest
from sqlalchemy import create_engine, text

from tests.store.test_alembic import ENV_ATOMIC, Project

HEAD = """
import enum
from sqlalchemy import Enum, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from statejobs import StatefulResource, state_column, transition

class Base(DeclarativeBase): ...
"""

PLAIN = """
class Old(enum.Enum):
    NEW = "new"
    IN_USE = "in: use"
    GONE = "it's gone"

class Upload(Base):
    __tablename__ = "uploads"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    {state}
"""

RECORDS = """
class S(enum.Enum):
    NEW = "new"
    IN_USE = "in: use"
    GONE = "it's gone"
    RECOVERED = "recovered"

class Upload(StatefulResource, Base):
    __tablename__ = "uploads"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    state: Mapped[S] = state_column(S, initial=S.NEW{options})

    @transition([S.NEW, S.IN_USE, S.GONE], S.RECOVERED)
    def recover(self) -> None: ...
"""

GUESTS = """
from enum import StrEnum
from sqlmodel import Field, SQLModel
from statejobs import Action, StatefulResource, Transition, Trigger, state_column

class S(StrEnum):
    NEW = "new"

class Guest(StatefulResource, SQLModel, table=True):
    model_config = {"ignored_types": (Trigger, Transition, Action)}
    id: int | None = Field(default=None, primary_key=True)
    name: str
    nick: str = Field(max_length=50)
    state: S = Field(default=S.NEW, sa_column=state_column(S, initial=S.NEW).column)
"""

NAMES = ("NEW", "IN_USE", "GONE")
VALUES = ("new", "in: use", "it's gone")
SELECT = "SELECT state, state_version, state_changed_at FROM uploads ORDER BY id"


COMPARING = {"**alembic_options()": "compare_server_default=True, **alembic_options()"}


class Uploads(Project):
    """A project whose table of uploads has rows."""

    def __init__(self, directory, url):
        super().__init__(directory, url)
        self.edit_env(ENV_ATOMIC)

    def write_models(self, body):
        (self.directory / "models.py").write_text(HEAD + body)

    def adopt(self, *, state="", rows=(), options=""):
        """Make the table with *rows*, then a migration that makes records of them."""
        self.write_models(PLAIN.format(state=state))
        self.migrate("plain")
        self.fill(rows)
        self.write_models(RECORDS.format(options=options))
        return self.migrate("records")

    def fill(self, rows):
        insert = text("INSERT INTO uploads (name, state) VALUES ('a', :state)")
        if not rows:
            insert = text("INSERT INTO uploads (name) VALUES ('a')")
        with self.engine.begin() as connection:
            connection.execute(insert, [{"state": state} for state in rows] or [{}])

    def rows(self):
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(SELECT))]

    def is_clean(self):
        return "No new upgrade operations" in self.alembic("check")


@pytest.fixture
def uploads(tmp_path, database_url):
    directory = tmp_path / "shop"
    directory.mkdir()
    project = Uploads(directory, database_url)
    project.engine = create_engine(database_url)
    yield project
    project.engine.dispose()


def test_rows_that_hold_values_keep_their_states(uploads):
    source = uploads.adopt(state="state: Mapped[str]", rows=VALUES)

    assert uploads.rows() == [(value, 0, None) for value in VALUES]
    assert uploads.is_clean()
    assert "UPDATE" not in source


@pytest.mark.parametrize(
    "state",
    [
        "state: Mapped[Old]",
        "state: Mapped[Old] = mapped_column(Enum(Old, native_enum=False))",
    ],
    ids=["native", "text"],
)
def test_rows_that_hold_names_hold_values_afterwards(uploads, state):
    uploads.adopt(state=state, rows=NAMES)

    assert uploads.rows() == [(value, 0, None) for value in VALUES]
    assert uploads.is_clean()


def test_the_table_and_the_column_may_have_any_name(uploads):
    names = {'"uploads"': '"user"', "    state: ": "    order: "}
    uploads.write_models(renamed(PLAIN.format(state="state: Mapped[Old]"), names))
    uploads.migrate("plain")
    with uploads.engine.begin() as connection:
        connection.execute(
            text("""INSERT INTO "user" (name, "order") VALUES ('a', 'IN_USE')""")
        )

    uploads.write_models(renamed(RECORDS.format(options=""), names))
    uploads.migrate("records")

    with uploads.engine.connect() as connection:
        assert connection.scalar(text('SELECT "order" FROM "user"')) == "in: use"
    assert uploads.is_clean()


def renamed(models, names):
    for old, new in names.items():
        models = models.replace(old, new)
    return models


def test_a_new_state_column_has_the_initial_state_in_rows_of_old(uploads):
    uploads.adopt()

    assert uploads.rows() == [("new", 0, None)]
    assert uploads.is_clean()


def test_a_default_of_the_users_goes_before_ours(uploads):
    uploads.adopt(options=', server_default="in: use"')

    assert uploads.rows() == [("in: use", 0, None)]
    assert uploads.is_clean()


def test_old_code_that_knows_no_version_can_insert_meanwhile(uploads):
    uploads.adopt(state="state: Mapped[str]", rows=VALUES)

    uploads.fill(["new"])

    assert uploads.rows()[-1] == ("new", 0, None)


def test_the_way_back_writes_the_names_again(uploads):
    text_enum = "state: Mapped[Old] = mapped_column(Enum(Old, native_enum=False))"
    uploads.adopt(state=text_enum, rows=NAMES)

    uploads.alembic("downgrade", "-1")

    with uploads.engine.connect() as connection:
        held = connection.scalars(text("SELECT state FROM uploads ORDER BY id"))
        assert tuple(held) == NAMES


def test_later_changes_of_states_translate_nothing(uploads):
    uploads.adopt(state="state: Mapped[str]", rows=VALUES)
    uploads.write_models(RECORDS.format(options="").replace('"recovered"', '"found"'))

    source = uploads.migrate("found")

    assert "UPDATE" not in source
    assert uploads.is_clean()


@pytest.mark.parametrize("has_rows", [True, False])
def test_no_default_of_ours_is_a_difference_to_who_compares_them(uploads, has_rows):
    uploads.edit_env(COMPARING)
    if has_rows:
        uploads.adopt()
    else:
        uploads.write_models(RECORDS.format(options=""))
        uploads.migrate("first")

    assert uploads.is_clean()


def test_a_default_that_the_user_changes_is_a_difference(uploads):
    uploads.edit_env(COMPARING)
    uploads.adopt(options=', server_default="new"')
    uploads.write_models(RECORDS.format(options=', server_default="in: use"'))

    assert "in: use" in uploads.migrate("default")
    assert uploads.is_clean()


def test_types_of_sqlmodel_need_no_import_in_a_migration(uploads):
    pytest.importorskip("sqlmodel")
    uploads.edit_env(
        {"Base.metadata": "SQLModel.metadata", "import Base": "import SQLModel"}
    )
    (uploads.directory / "models.py").write_text(GUESTS)

    source = uploads.migrate("guests")

    assert "sqlmodel" not in source
    assert "sa.String(length=50)" in source
    assert uploads.is_clean()
