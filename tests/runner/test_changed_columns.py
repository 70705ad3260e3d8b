"""What an action changed is what a flush would write, read without a flush."""

import enum
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from sqlalchemy import JSON
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    make_transient_to_detached,
    mapped_column,
)
from sqlalchemy.orm.attributes import flag_modified, get_history, set_committed_value

from statejobs import StatefulResource, UtcDateTime, state_column
from statejobs.work.records.changes import own_changes


class Base(DeclarativeBase): ...


class S(enum.StrEnum):
    NEW = "new"
    OLD = "old"


class Sheet(StatefulResource, Base):
    __tablename__ = "sheets_of_changes"
    id: Mapped[int] = mapped_column(primary_key=True)
    count: Mapped[int | None]
    price: Mapped[Decimal | None]
    seen_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    notes: Mapped[dict | None] = mapped_column(JSON)
    state: Mapped[S] = state_column(S, initial=S.NEW, final=[S.OLD])


NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
LOADED = {"count": 1, "price": Decimal("1.50"), "seen_at": NOON, "notes": {"a": 1}}


@pytest.fixture
def session():
    with Session() as session:
        yield session


def loaded(session, **values):
    """A record as a SELECT would have made it."""
    record = Sheet(id=1)
    make_transient_to_detached(record)
    for name, value in values.items():
        set_committed_value(record, name, value)
    set_committed_value(record, "state", S.NEW)
    session.add(record)
    return record


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", 1),
        ("count", 2),
        ("count", None),
        ("price", Decimal("1.5")),
        ("price", Decimal("1.51")),
        ("seen_at", NOON),
        ("seen_at", None),
        ("notes", {"a": 1}),
        ("notes", {"a": 2}),
        ("notes", None),
    ],
)
@pytest.mark.parametrize("before", [LOADED, {}], ids=["loaded", "not loaded"])
def test_a_column_is_changed_when_a_flush_would_write_it(session, before, name, value):
    record = loaded(session, **before)

    setattr(record, name, value)

    is_changed = bool(get_history(record, name).has_changes()) if before else True
    expected = {name: value} if is_changed else {}
    assert own_changes(session, [record], Sheet.__statejobs__) == [expected]


def test_a_value_that_was_changed_in_place_is_a_change(session):
    record = loaded(session, **{**LOADED, "notes": {"a": 1}})

    record.notes["a"] = 2
    flag_modified(record, "notes")  # as MutableDict does by itself

    assert own_changes(session, [record], Sheet.__statejobs__) == [{"notes": {"a": 2}}]


def test_an_sql_expression_is_left_to_the_flush(session):
    record = loaded(session, **LOADED)

    record.count = Sheet.count + 1

    assert own_changes(session, [record], Sheet.__statejobs__) is None
