"""Each door past the machine is refused with the way that works, or is none of ours."""

import pytest
from sqlalchemy import (
    ForeignKey,
    column,
    delete,
    func,
    insert,
    literal,
    select,
    table,
    update,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    mapped_column,
    scoped_session,
    sessionmaker,
    synonym,
)

from statejobs import (
    BulkError,
    JobContext,
    ProtectedStateError,
    StatefulResource,
    Trigger,
    state_column,
)
from tests.resource.support import Step
from tests.support.shop import Order as ShopOrder
from tests.support.shop import (
    new_order,
    read_history,
    read_history_rows,
    read_jobs,
    shop_engine,
)


class Base(DeclarativeBase): ...


class Order(StatefulResource, Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[int] = mapped_column(default=0)
    state: Mapped[Step] = state_column(Step, initial=Step.NEW)
    status = synonym("state")

    @hybrid_property
    def phase(self):
        return self.state


class Quiet(StatefulResource, Base):
    __tablename__ = "quiet"
    __history__ = False

    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[int] = mapped_column(default=0)
    state: Mapped[Step] = state_column(Step, initial=Step.NEW)


class Animal(StatefulResource, Base):
    __tablename__ = "animals"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(default="animal")
    state: Mapped[Step] = state_column(Step, initial=Step.NEW)
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}  # noqa: RUF012


class Dog(Animal):
    __tablename__ = "dogs"

    id: Mapped[int] = mapped_column(ForeignKey("animals.id"), primary_key=True)
    __mapper_args__ = {"polymorphic_identity": "dog"}  # noqa: RUF012


class Named(StatefulResource, Base):
    """The arguments of its job are made from the record."""

    __tablename__ = "named"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="x")
    call = Trigger.on_demand("named.call", args=lambda named: {"name": named.name})
    state: Mapped[Step] = state_column(Step, initial=Step.NEW, run_trigger=call)

    @call.action(Step.NEW, Step.DONE)
    def shout(self, ctx: JobContext, name: str) -> None: ...


class Note(Base):
    """No resource."""

    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(default="new")


@pytest.fixture
def engine(database_url):
    with shop_engine(database_url, Base) as opened:
        yield opened


def stored(engine, cls=Order):
    with Session(engine) as session:
        return dict(session.execute(select(cls.id, cls.state).order_by(cls.id)).all())


class Second(Base):
    """Another class on the table of a resource."""

    __table__ = Order.__table__


# --- columns of the machine ------------------------------------------------------------------

TABLE = Order.__table__
SETS_STATE = {
    "row": (insert(Order), [{"state": Step.DONE}]),
    "last of many rows": (insert(Order), [{"total": 1}, {"state": Step.DONE}]),
    "version": (insert(Order), [{"state_version": 5}]),
    "time": (insert(Order), [{"state_changed_at": None}]),
    "values": (insert(Order).values(state=Step.DONE), None),
    "attribute": (insert(Order).values({Order.state: Step.DONE}), None),
    "many values": (insert(Order).values([{"total": 1}, {"state": Step.DONE}]), None),
    "position": (insert(TABLE).values((7, None, 1, 1, Step.DONE)), None),
    "positions": (insert(TABLE).values([(7, None, 1, 1, Step.DONE)]), None),
    "select": (
        insert(Order).from_select(["total", "state"], select(Order.total, Order.state)),
        None,
    ),
    "synonym": (insert(Order).values(status=Step.DONE), None),
    "hybrid attribute": (insert(Order).values(phase=Step.DONE), None),
    "table": (insert(TABLE).values(state=Step.DONE), None),
    "conflict": (
        sqlite.insert(Order).on_conflict_do_update(
            index_elements=["id"], set_={"state": Step.DONE}
        ),
        [{"id": 1}],
    ),
    "conflict by attribute": (
        sqlite.insert(Order).on_conflict_do_update(
            index_elements=["id"], set_={Order.state: Step.DONE}
        ),
        [{"id": 1}],
    ),
    "conflict without history": (
        sqlite.insert(Quiet).on_conflict_do_update(
            index_elements=["id"], set_={"state": Step.DONE}
        ),
        [{"id": 1}],
    ),
    "update": (update(Order).values(state=Step.DONE), None),
    "update of the table": (update(TABLE).values(state=Step.DONE), None),
    "update of the table where attributes say": (
        update(TABLE).where(Order.id == 1).values(state=Step.DONE),
        None,
    ),
    "update of an alias": (update(TABLE.alias()).values(state=Step.DONE), None),
    "update of an alias of it": (
        update(TABLE.alias().alias("x")).values(state=Step.DONE),
        None,
    ),
    "update of an aliased class": (
        update(aliased(Order)).values(state=Step.DONE),
        None,
    ),
    "update of a second class": (update(Second).values(state=Step.DONE), None),
    "insert of a second class": (insert(Second).values(state=Step.DONE), None),
    "update by synonym": (update(Order).values(status=Step.DONE), None),
    "update by hybrid attribute": (
        update(Order).values({Order.phase: Step.DONE}),
        None,
    ),
    "update by its name": (update(Order).values(phase=Step.DONE), None),
    "update by key": (update(Order), [{"id": 1, "state": Step.DONE}]),
    "update to what SQL makes": (update(Order).values(state=func.lower("DONE")), None),
    "update read back": (
        select(Order).from_statement(
            update(Order).values(state=Step.DONE).returning(Order)
        ),
        None,
    ),
    "insert read back": (
        select(Order).from_statement(
            insert(Order).values(state=Step.DONE).returning(Order)
        ),
        None,
    ),
    "another entity read back": (
        select(Note).from_statement(
            update(Order).values(state=Step.DONE).returning(Order.id)
        ),
        None,
    ),
}


@pytest.mark.parametrize(("statement", "rows"), SETS_STATE.values(), ids=SETS_STATE)
def test_a_statement_that_sets_a_column_of_the_machine_is_refused(
    engine, statement, rows
):
    with Session(engine) as session:
        session.add(Order())
        session.commit()

        with pytest.raises(
            ProtectedStateError, match=r"^(insert|update)\((Order|Quiet)\) sets "
        ):
            session.execute(statement, rows) if rows else session.execute(statement)
        session.commit()

    assert stored(engine) == {1: Step.NEW}
    assert read_history(engine) == [("create", None, "new")]


@pytest.mark.parametrize(
    "statement",
    [
        update(Order).values(total=5),
        update(TABLE).values(total=5),
        update(TABLE).where(Order.id == 1).values(total=5),
        select(Order).from_statement(update(Order).values(total=5).returning(Order)),
    ],
    ids=["class", "table", "table where attributes say", "read back"],
)
def test_an_update_of_other_columns_is_none_of_ours(engine, statement):
    with Session(engine) as session:
        session.add(Order())
        session.commit()

        session.execute(statement)
        session.commit()

        assert session.scalars(select(Order.total)).all() == [5]


def test_tables_without_a_machine_are_none_of_ours(engine):
    with Session(engine) as session:
        session.execute(insert(Note), [{"state": "old"}])
        session.execute(update(Note).values(state="older"))
        session.execute(insert(Note.__table__).values(state="old"))
        session.execute(update(Note.__table__).where(Note.id == 9).values(state="no"))
        session.bulk_insert_mappings(Note, [{"state": "x"}])
        session.bulk_update_mappings(Note, [{"id": 1, "state": "y"}])
        session.bulk_save_objects(Note(state=word) for word in "zw")
        session.commit()

        assert sorted(session.scalars(select(Note.state))) == [
            "old",
            "w",
            "x",
            "y",
            "z",
        ]


NOTES = table("notes", column("id"), column("state"))
LIGHTWEIGHT = {
    "insert": insert(NOTES).values(state="x"),
    "insert of rows": insert(NOTES).values([{"state": "x"}, {"state": "y"}]),
    "insert from a select": insert(NOTES).from_select(["state"], select(literal("x"))),
    "insert that returns": insert(NOTES).values(state="x").returning(NOTES.c.id),
    "update": update(NOTES).values(state="x"),
    "delete": delete(NOTES),
}


@pytest.mark.parametrize("statement", LIGHTWEIGHT.values(), ids=LIGHTWEIGHT)
def test_a_lightweight_table_is_none_of_ours(engine, statement):
    with Session(engine) as session:
        session.execute(statement)
        session.execute(insert(NOTES), [{"state": "x"}])
        session.commit()

        assert "x" in session.scalars(select(Note.state)).all()


# --- creation --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            insert(Dog),
            "insert(Dog): its records lie in several tables, under joined inheritance\n"
            "  why: their history and jobs need keys that only a flush hands from table to table\n"
            "  fix: make objects: session.add_all([Dog(…), …])",
        ),
        (
            insert(Named),
            "insert(Named): trigger 'named.call' makes its args= from the record, in Python\n"
            "  why: an INSERT makes no record in Python\n"
            "  fix: give args= fixed values and let the action read its record, "
            "or make objects: session.add_all([Named(…), …])",
        ),
        (
            select(Order).from_statement(insert(Order).returning(Order)),
            "select(…).from_statement(insert(Order)): creates records in a statement that reads\n"
            "  why: their history and the jobs that they promise would not be written\n"
            "  fix: execute the insert itself: session.scalars(insert(Order).returning(Order))",
        ),
    ],
    ids=["joined", "arguments", "read back"],
)
def test_what_one_statement_for_all_cannot_create_is_refused(
    engine, statement, message
):
    with Session(engine) as session, pytest.raises(BulkError) as refused:
        session.execute(statement)

    assert str(refused.value) == message


def test_sqlite_does_not_tell_an_upsert_that_creates_from_one_that_updates(sqlite_url):
    statement = sqlite.insert(Order).on_conflict_do_update(
        index_elements=["id"], set_={"total": 9}
    )
    with shop_engine(sqlite_url, Base) as engine, Session(engine) as session:
        with pytest.raises(BulkError) as refused:
            session.execute(statement, [{"id": 1}])

        assert read_history_rows(engine) == []
    assert str(refused.value) == (
        "insert(Order).on_conflict_do_update(…): "
        "sqlite does not tell which rows it inserted and which it updated\n"
        "  why: only those that it inserted are created: they get history, and jobs\n"
        "  fix: insert with on_conflict_do_nothing(), then update(Order) what was there"
    )


@pytest.mark.parametrize("cls", [Order, Quiet])
def test_replacing_a_record_is_refused(sqlite_url, cls):
    with shop_engine(sqlite_url, Base) as engine, Session(engine) as session:
        session.execute(insert(cls), [{"id": 1}])
        with pytest.raises(
            ProtectedStateError, match="would take a record back to its initial"
        ):
            session.execute(insert(cls).prefix_with("or replace"), [{"id": 1}])


def test_ignoring_a_record_that_is_there_creates_only_the_others(sqlite_url):
    with shop_engine(sqlite_url, Base) as engine, Session(engine) as session:
        session.execute(insert(Order), [{"id": 1}])
        session.execute(insert(Order).prefix_with("OR IGNORE"), [{"id": 1}, {"id": 2}])
        session.commit()

        assert [row.record_id for row in read_history_rows(engine)] == ["1", "2"]


def test_the_base_of_a_family_may_be_inserted(engine):
    with Session(engine) as session:
        session.execute(insert(Animal), [{}, {}])
        session.commit()

    assert read_history(engine) == [("create", None, "new")] * 2


# --- the old bulk methods --------------------------------------------------------------------

OLD_DOORS = {
    "bulk_save_objects": (
        lambda s: s.bulk_save_objects([Note(), Order()]),
        "Add the records: session.add_all([…])",
    ),
    "bulk_insert_mappings": (
        lambda s: s.bulk_insert_mappings(Order, [{}]),
        "Execute the statement: session.execute(insert(Order), [{…}, …])",
    ),
    "bulk_update_mappings": (
        lambda s: s.bulk_update_mappings(
            Order.__mapper__, [{"id": 1, "state": Step.DONE}]
        ),
        "Execute the statement: session.execute(update(Order), [{…}, …])",
    ),
}


def a_session(engine):
    return Session(engine)


def a_session_class_of_their_own(engine):
    class TheirSession(Session): ...

    return sessionmaker(engine, class_=TheirSession)()


def a_scoped_session(engine):
    return scoped_session(sessionmaker(engine))


@pytest.mark.parametrize(
    "opened", [a_session, a_session_class_of_their_own, a_scoped_session]
)
@pytest.mark.parametrize("name", OLD_DOORS)
def test_an_old_bulk_method_is_refused_with_the_way_that_works(engine, opened, name):
    enter, instead = OLD_DOORS[name]
    session = opened(engine)

    with pytest.raises(ProtectedStateError) as refused:
        enter(session)
    session.commit()
    session.close()

    assert str(refused.value) == (
        f"session.{name}() would write Order past its machine: no guard, no history, no job. "
        f"{instead}"
    )
    assert stored(engine) == {}


def test_a_fired_record_is_not_saved_without_its_job(database_url):
    with shop_engine(database_url) as engine, Session(engine) as session:
        order = session.get(ShopOrder, new_order(engine))
        order.submit()

        with pytest.raises(ProtectedStateError):
            session.bulk_save_objects([order])
        session.commit()

        assert [job.state for job in read_jobs(engine)] == ["queued"]


def test_a_literal_column_list_of_a_select_is_taken_as_it_is(engine):
    with Session(engine) as session:
        session.execute(insert(Order).from_select([Order.total], select(literal(3))))
        session.commit()

        assert session.scalars(select(Order.total)).all() == [3]
