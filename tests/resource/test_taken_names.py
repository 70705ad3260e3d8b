"""A name that is ours is told when the class is made, so that nothing is mistaken for ours."""

from enum import StrEnum

import pytest
from sqlalchemy import (
    CheckConstraint,
    Index,
    MetaData,
    UniqueConstraint,
    create_engine,
    inspect,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    DefinitionError,
    StatefulResource,
    metadata,
    state_column,
    transition,
)
from statejobs.store.check_names import check_name


class S(StrEnum):
    NEW = "new"
    DONE = "done"


TAKEN = check_name("tickets", "state", list(S))
OLD = "ck_tickets_state_0123abcd"
"""Such a name had the CHECK when there were other states."""


def declare(*args, table="tickets", schema=None, **options):
    class Base(DeclarativeBase):
        metadata = MetaData(schema=schema)

    class Ticket(StatefulResource, Base):
        __tablename__ = table
        __table_args__ = args
        id: Mapped[int] = mapped_column(primary_key=True)
        n: Mapped[int]
        state: Mapped[S] = state_column(S, initial=S.NEW, **options)

        @transition(S.NEW, S.DONE)
        def close(self) -> None: ...

    return Ticket


@pytest.mark.parametrize("name", [TAKEN, TAKEN.upper(), OLD])
@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("check constraint", lambda name: CheckConstraint("n > 0", name=name)),
        ("unique constraint", lambda name: UniqueConstraint("n", name=name)),
        ("index", lambda name: Index(name, "n")),
    ],
)
def test_nothing_is_named_like_the_check_of_the_states(kind, make, name):
    with pytest.raises(
        DefinitionError, match="has the name of the CHECK that guards"
    ) as caught:
        declare(make(name))

    assert caught.value.what.startswith(f"its {kind} {name!r}")


@pytest.mark.parametrize("name", sorted({*metadata.tables, "statejobs_version"}))
def test_no_resource_is_stored_in_a_table_of_ours(name):
    with pytest.raises(
        DefinitionError, match=f"its table '{name}' has the name of a table of"
    ):
        declare(table=name)


INDEXES = sorted(
    index.name for table in metadata.tables.values() for index in table.indexes
)


@pytest.mark.parametrize("name", INDEXES)
def test_no_index_is_named_like_one_of_ours(name):
    for make in (lambda: Index(name, "n"), lambda: UniqueConstraint("n", name=name)):
        with pytest.raises(
            DefinitionError, match="has the name of an index of statejobs"
        ):
            declare(make())


def test_a_key_of_ours_in_the_info_of_the_column_is_refused():
    """With it, the CHECK would be left out without a word."""
    with pytest.raises(DefinitionError, match="is a name of statejobs"):
        declare(info={"statejobs.guards_states": True})


def test_other_names_and_schemas_are_the_users(database_url):
    name = "ck_tickets_state"
    ticket = declare(
        CheckConstraint("n > 0", name=name), Index("ix_tickets_state", "n"), info={}
    )
    declare(table="statejobs_jobs", schema="mine")
    engine = create_engine(database_url)
    ticket.metadata.create_all(engine)
    try:
        found = {
            check["name"] for check in inspect(engine).get_check_constraints("tickets")
        }
        assert found == {name, TAKEN}
    finally:
        engine.dispose()


def test_a_copy_of_a_table_keeps_its_check_once():
    ticket = declare()

    copy = ticket.__table__.to_metadata(MetaData())

    checks = [c for c in copy.constraints if isinstance(c, CheckConstraint)]
    assert [check.name for check in checks] == [TAKEN]
