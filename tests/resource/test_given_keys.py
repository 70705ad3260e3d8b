"""Only a key that the database counts up is surely new: another may have had a record before."""

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, foreign, mapped_column, relationship

from statejobs import Domain, StateJobs
from tests.resource.support import keyed, statements_on
from tests.support.clock import ManualClock, manual_sources
from tests.support.parcels import close_app

LOOK = "FROM statejobs_jobs"


class Base(DeclarativeBase): ...


class Customer(Base):
    __tablename__ = "customers"
    id = mapped_column(sa.String(40), primary_key=True)


def slug_of_event(_mapper, _connection, record):
    record.id = "acme"


ByDefault = keyed(sa.String(40), "ByDefault", Base, default=lambda: "acme")
ByServer = keyed(sa.String(40), "ByServer", Base, server_default="acme")
NEXT = "(SELECT coalesce(max(o.id), 0) + 1 FROM bynext o)"
ByNext = keyed(sa.Integer(), "ByNext", Base, default=sa.text(NEXT))
ByEvent = keyed(sa.String(40), "ByEvent", Base)
sa.event.listen(ByEvent, "before_insert", slug_of_event)
ByParent = keyed(
    sa.String(40),
    "ByParent",
    Base,
    more={
        "parent": relationship(
            Customer,
            primaryjoin=lambda: foreign(ByParent.id) == Customer.id,
            viewonly=False,
        )
    },
)
Numbered = keyed(sa.Integer(), "Numbered", Base, autoincrement=True)
NumberedByEvent = keyed(sa.Integer(), "NumberedByEvent", Base, autoincrement=True)


@sa.event.listens_for(NumberedByEvent, "before_insert")
def number(_mapper, _connection, record):
    record.id = 1


Drawn = keyed(sa.Integer(), "Drawn", Base, default=sa.Sequence("drawn_numbers"))
GIVEN = [ByDefault, ByServer, ByNext, ByEvent, ByParent, NumberedByEvent]


@pytest.fixture
def app(database_url):
    keys = Domain("keys", resources=[*GIVEN, Numbered, Drawn])
    opened = StateJobs(
        database_url, domains=[keys], sources=manual_sources(ManualClock())
    )
    opened.create_all()
    yield opened
    close_app(opened)


def make(session, cls):
    record = cls()
    if cls is ByParent:
        record.parent = session.merge(Customer(id="acme"))
    session.add(record)
    return record


@pytest.mark.parametrize("by", ["sql", "orm"])
def test_a_record_that_gets_the_key_of_a_deleted_one_has_none_of_its_jobs(app, by):
    for cls in GIVEN:
        for _ in range(2):
            with app.session() as session:
                make(session, cls).submit()
                session.commit()
            with app.session() as session:
                end(session, cls, by)
                session.commit()

    for cls in GIVEN:
        second, first = app.queries.jobs(resource=cls.__name__)
        assert first.record_id == second.record_id
        assert first.idempotency_key != second.idempotency_key


def end(session, cls, by):
    if by == "sql":
        session.execute(sa.delete(cls))
    else:
        session.delete(session.scalars(sa.select(cls)).one())


@pytest.mark.parametrize(
    "cls", [ByDefault, ByServer, ByNext], ids=lambda cls: cls.__name__
)
def test_an_insert_that_leaves_the_key_to_a_default_looks_for_a_predecessor(app, cls):
    for _ in range(2):
        with app.session() as session:
            session.execute(sa.insert(cls), [{}])
            session.scalars(sa.select(cls)).one().submit()
            session.commit()
        with app.session() as session:
            end(session, cls, "sql")
            session.commit()

    second, first = app.queries.jobs(resource=cls.__name__)
    assert first.idempotency_key != second.idempotency_key


@pytest.mark.parametrize("cls", [Numbered, Drawn], ids=lambda cls: cls.__name__)
def test_a_key_that_the_database_counts_up_needs_no_look(app, cls):
    with statements_on(app.engine) as count:
        with app.session() as session:
            session.add_all([cls(), cls()])
            session.commit()
        with app.session() as session:
            session.execute(sa.insert(cls), [{}])
            session.commit()

        reuses = app.engine.dialect.name == "sqlite"  # the id of the last record
        assert count(LOOK) == (2 if reuses else 0)
