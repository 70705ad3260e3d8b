"""What `session.flush([…])`, or an orphan, leaves out of a flush: nothing is written for it."""

import warnings

import pytest
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from statejobs import StatefulResource, state_column
from statejobs.errors import StateJobsError
from tests.resource.support import Step
from tests.resource.test_mapping import Work
from tests.support.shop import (
    Order,
    S,
    new_order,
    read_history,
    read_history_rows,
    read_jobs,
    shop_engine,
)

CREATED_AND_SUBMITTED = [("create", None, "draft"), ("submit", "draft", "queued")]


def flush_only(session, *records):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SQLAlchemy would rather not offer it
        session.flush(list(records))


def test_a_flush_of_some_new_records_writes_nothing_for_the_others(engine, session):
    one, other = Order(total=1), Order(total=2)
    session.add_all([one, other])
    one.submit()
    other.submit()

    flush_only(session, one)
    session.expunge(other)
    session.commit()

    assert {row.record_id for row in read_history_rows(engine)} == {str(one.id)}
    assert [job.record_id for job in read_jobs(engine)] == [str(one.id)]


def test_what_a_flush_of_some_left_out_is_written_by_the_next(engine, session):
    one, other = Order(total=1), Order(total=2)
    session.add_all([one, other])
    one.submit()
    other.submit()

    flush_only(session, one)
    session.commit()

    assert read_history(engine, one.id) == CREATED_AND_SUBMITTED
    assert read_history(engine, other.id) == CREATED_AND_SUBMITTED
    assert sorted(job.record_id for job in read_jobs(engine)) == sorted(
        [str(one.id), str(other.id)]
    )


def test_a_flush_of_some_stored_records_moves_only_those(engine, session):
    one, other = (session.get(Order, new_order(engine)) for _ in range(2))
    one.submit()
    other.submit()

    flush_only(session, one)
    with session.no_autoflush:
        session.expire(other)
    session.commit()

    assert [job.record_id for job in read_jobs(engine)] == [str(one.id)]
    assert other.state is S.DRAFT


def test_a_flush_of_no_record_in_particular_flushes_all(engine, session):
    session.add(order := Order(total=1))
    order.submit()

    flush_only(session)
    session.commit()

    assert read_history(engine) == CREATED_AND_SUBMITTED


class Family(DeclarativeBase): ...


class Folder(Family):
    __tablename__ = "folders"
    id: Mapped[int] = mapped_column(primary_key=True)
    papers: Mapped[list["Paper"]] = relationship(
        back_populates="folder", cascade="all, delete-orphan"
    )


class Paper(Work, StatefulResource, Family):
    __tablename__ = "papers"
    id: Mapped[int] = mapped_column(primary_key=True)
    folder_id: Mapped[int | None] = mapped_column(ForeignKey("folders.id"))
    folder: Mapped[Folder | None] = relationship(back_populates="papers")
    state: Mapped[Step] = state_column(Step, initial=Step.NEW)


@pytest.fixture
def family(database_url):
    with shop_engine(database_url, Family) as opened:
        yield opened


def test_a_new_record_that_a_flush_of_its_parent_draws_in_is_written_whole(family):
    with Session(family) as session:
        session.add(folder := Folder(papers=[Paper()]))
        folder.papers[0].queue()
        flush_only(session, folder)
        session.commit()

    assert [row.name for row in read_history_rows(family)] == ["create", "queue"]
    assert len(read_jobs(family)) == 1


def test_a_stored_record_that_a_flush_of_another_draws_in_is_refused(family):
    with Session(family) as session:
        session.add_all([folder := Folder(), paper := Paper()])
        session.commit()
        with session.no_autoflush:
            paper.queue()
            folder.papers.append(paper)

        with pytest.raises(StateJobsError, match="flush the whole session"):
            flush_only(session, folder)

    assert read_jobs(family) == []


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")
def test_a_new_orphan_that_the_flush_lets_go_leaves_no_trace(family):
    with Session(family) as session:
        session.add(folder := Folder(papers=[Paper()]))
        folder.papers[0].queue()
        folder.papers.clear()
        session.commit()
        session.add(paper := Paper())
        session.commit()

        assert {row.record_id for row in read_history_rows(family)} == {str(paper.id)}
    assert read_jobs(family) == []
