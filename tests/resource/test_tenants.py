"""`__tenant__`: history and jobs of a record are of the tenant whose the record is."""

from collections import Counter
from enum import StrEnum
from uuid import UUID

import pytest
from sqlalchemy import ForeignKey, Numeric, insert, select, true, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from statejobs import (
    ChunkContext,
    DefinitionError,
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    TenantMismatchError,
    Trigger,
    state_column,
    tenant,
    transition,
)
from statejobs.store.tables import jobs
from tests.resource.support import Step
from tests.support.shop import read_history_rows, shop_engine


class Base(DeclarativeBase): ...


class S(StrEnum):
    DRAFT = "draft"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Org(Base):
    __tablename__ = "tenant_orgs"
    id: Mapped[int] = mapped_column(primary_key=True)


class Note(StatefulResource, Base):
    __tablename__ = "tenant_notes"
    __tenant__ = "org_id"

    id: Mapped[int] = mapped_column(primary_key=True)
    org_id: Mapped[int | None] = mapped_column(ForeignKey("tenant_orgs.id"))
    seen: Mapped[str | None]
    org: Mapped[Org | None] = relationship()
    send = Trigger.on_demand("tenant.send")
    sort = Trigger.on_demand("tenant.sort", chunk=10)
    state: Mapped[S] = state_column(S, initial=S.DRAFT)

    @transition(S.DRAFT, S.QUEUED, run_trigger=send)
    def submit(self) -> None: ...

    @transition(S.DONE, S.DRAFT)
    def reopen(self) -> None: ...

    @send.action(S.QUEUED, S.DONE, during=S.RUNNING, failed=S.FAILED)
    def run_send(self, ctx: JobContext) -> None:
        self.seen = ctx.tenant
        ctx.session.add(Note(org_id=2))

    @sort.action(S.DRAFT, S.DONE)
    @staticmethod
    def sort_all(notes: list["Note"], ctx: ChunkContext) -> None:
        ctx.session.add(Tag())


class Tag(StatefulResource, Base):
    __tablename__ = "tenant_tags"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[S] = state_column(S, initial=S.DRAFT)


class Page(StatefulResource, Base):
    __tablename__ = "tenant_pages"
    __tenant__ = "owner"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[UUID | None]
    state: Mapped[S] = state_column(S, initial=S.DRAFT)

    @transition(S.DRAFT, S.DONE)
    def close(self) -> None: ...


ONE, TWO = UUID(int=1), UUID(int=2)


@pytest.fixture
def engine(database_url):
    with shop_engine(database_url, Base) as opened:
        with Session(opened) as session:
            session.add_all([Org(id=1), Org(id=2)])
            session.commit()
        yield opened


@pytest.fixture
def session(engine):
    with Session(engine) as opened:
        yield opened


@pytest.fixture
def app(engine):
    domains = [Domain("tenants", resources=[Note, Tag, Page])]
    with StateJobs(engine, domains=domains) as opened:
        yield opened


def tenants(engine, name=None):
    return [row.tenant for row in read_history_rows(engine) if name in (None, row.name)]


def job_tenants(engine):
    with engine.connect() as connection:
        return connection.scalars(select(jobs.c.tenant).order_by(jobs.c.id)).all()


def test_a_flush_takes_it_from_the_record(engine, session):
    for org in (1, 2):
        note = Note(org_id=org)
        session.add(note)
        note.submit()
    session.commit()

    assert sorted(tenants(engine)) == ["1", "1", "2", "2"]
    assert sorted(job_tenants(engine)) == ["1", "2"]


def test_a_key_that_the_flush_itself_fills_in_is_taken(engine, session):
    session.add(Note(org=session.get(Org, 2)))
    session.commit()

    assert tenants(engine) == ["2"]


def test_the_same_tenant_may_be_named(engine, session):
    with tenant("1"):
        session.add(Note(org_id=1))
        session.commit()

    assert tenants(engine) == ["1"]


def test_another_that_is_named_is_refused(engine, session):
    note = Note(org_id=1)
    session.add(note)
    session.commit()

    with tenant("2"):
        note.submit()
    with pytest.raises(TenantMismatchError) as refused:
        session.commit()
    session.rollback()

    assert str(refused.value) == (
        "Note 1: it is of tenant '1', and this is done for '2'; "
        "say with tenant('1'), or name none; roll back first"
    )
    assert (refused.value.tenant, refused.value.named) == ("1", "2")
    assert tenants(engine) == ["1"]
    assert job_tenants(engine) == []


def test_a_record_of_nobody_is_of_the_tenant_that_is_named(engine, session):
    with tenant("acme"):
        session.add(Note())
        session.commit()

    assert tenants(engine) == ["acme"]


def test_a_job_that_is_asked_for_is_of_its_tenant(engine, session):
    notes = [Note(org_id=1), Note(org_id=2)]
    session.add_all(notes)

    Note.sort_all.enqueue_many(session, notes)
    with tenant("2"), pytest.raises(TenantMismatchError):
        Note.sort_all.enqueue(session, notes[0])
    session.commit()

    assert sorted(job_tenants(engine)) == ["1", "2"]


def test_a_claim_takes_the_tenant_of_today(app, engine, session):
    note = Note(org_id=1)
    session.add(note)
    note.submit()
    session.commit()
    session.execute(
        update(Note.__table__).where(Note.__table__.c.id == note.id).values(org_id=2)
    )
    session.commit()

    app.drain(raise_errors=True)

    session.refresh(note)
    assert note.seen == "2"
    assert tenants(engine, "run_send.start") == ["2"]
    assert tenants(engine, "run_send.complete") == ["2"]


def test_a_job_may_work_on_a_record_of_another_tenant(app, engine, session):
    note = Note(org_id=1)
    session.add(note)
    note.submit()
    session.commit()

    app.drain(raise_errors=True)

    assert tenants(engine, "create") == ["1", "2"]


def test_each_tenant_has_a_call_of_its_own(app, engine, session):
    notes = [Note(org_id=1), Note(org_id=2)]
    session.add_all(notes)
    Note.sort_all.enqueue_many(session, notes)
    session.commit()

    app.drain(raise_errors=True)

    rows = read_history_rows(engine)
    tags = sorted(row.tenant for row in rows if row.resource == "Tag")
    assert tags == ["1", "2"]
    assert sorted(tenants(engine, "sort_all.complete")) == ["1", "2"]


def test_bulk_takes_it_from_each_record(engine, session):
    session.add_all([Note(org_id=1), Note(org_id=2), Note(org_id=2), Note()])
    session.commit()

    result = Note.submit.bulk(session, where=true())
    session.commit()

    assert (result.moved, result.inserted) == (4, 4)
    assert Counter(tenants(engine, "submit")) == {None: 1, "1": 1, "2": 2}
    assert Counter(job_tenants(engine)) == {None: 1, "1": 1, "2": 2}


def test_bulk_for_a_tenant_leaves_the_records_of_others(engine, session):
    session.add_all([Note(org_id=1), Note(org_id=2), Note()])
    session.commit()

    with tenant("2"):
        found = Note.submit.bulk(session, where=true(), dry_run=True)
        assert (found.moved, found.refused) == (2, {"__tenant__": 1})
        assert Note.submit.bulk(session, where=true()).moved == 2
    with tenant("acme"):
        assert Note.submit.bulk(session, where=true()).moved == 0
    session.commit()

    assert tenants(engine, "submit") == ["2", "2"]


def test_a_tenant_may_be_a_uuid(engine, session):
    session.add_all([Page(owner=ONE), Page(owner=TWO)])
    session.commit()

    with tenant(str(TWO)):
        assert Page.close.bulk(session, where=true()).moved == 1
    session.commit()

    assert tenants(engine) == [str(ONE), str(TWO), str(TWO)]


def test_records_that_an_insert_creates_have_theirs(engine, session):
    session.execute(insert(Note), [{"org_id": 1}, {"org_id": 2}])
    session.commit()

    assert sorted(tenants(engine)) == ["1", "2"]


def test_an_insert_for_another_tenant_is_refused(session):
    with tenant("2"), pytest.raises(TenantMismatchError, match="Note 1: it is of"):
        session.execute(insert(Note), [{"org_id": 1}])


def base():
    class Root(DeclarativeBase): ...

    class Keyed(Root):
        __abstract__ = True
        __tablename__ = "bills"
        id: Mapped[int] = mapped_column(primary_key=True)

    return Keyed


@pytest.mark.parametrize(
    ("named", "what", "fix"),
    [
        (
            "org_idd",
            "Bill.__tenant__: 'org_idd' is no column of Bill",
            "did you mean 'org_id'?",
        ),
        (
            "total",
            "Bill.__tenant__: the column 'total' is Numeric()",
            "name a column of text, whole numbers or UUIDs, such as a foreign key",
        ),
        (5, "Bill.__tenant__: 5 is no column of Bill", "known: "),
    ],
)
def test_what_is_no_tenant_is_refused(named, what, fix):
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            __tenant__ = named
            org_id: Mapped[str]
            total: Mapped[float] = mapped_column(Numeric())
            state: Mapped[Step] = state_column(Step, initial=Step.NEW)

    lines = str(refused.value).splitlines()
    assert lines[0] == what
    assert lines[2].startswith(f"  fix: {fix}")
