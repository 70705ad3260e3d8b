"""A limit takes a part of the records, without looking at what is left."""

import threading

import pytest
from sqlalchemy import Index, event, insert, select, text, true, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from statejobs import StatefulResource, state_column, transition
from tests.resource.support import Step
from tests.resource.test_bulk import wait_for_a_lock
from tests.support.processes import DEADLINE
from tests.support.shop import shop_engine

MANY = 20_000
LEFT = 3_000
AT_ONCE = 100


class Base(DeclarativeBase): ...


class Card(StatefulResource, Base):
    """Found by its state; nothing is left by its moves."""

    __tablename__ = "cards"
    __history__ = False

    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[Step] = state_column(Step, initial=Step.NEW)
    __table_args__ = (Index("ix_cards_state", "state"),)

    @transition(Step.NEW, Step.OLD)
    def file(self) -> None: ...


@pytest.fixture
def engine(database_url):
    with shop_engine(database_url, Base) as opened:
        yield opened


def new_cards(engine, count, state=Step.NEW, first=1):
    """Insert *count* cards in *state*."""
    rows = [{"id": n, "state": state} for n in range(first, first + count)]
    with engine.begin() as connection:
        connection.execute(insert(Card.__table__), rows)


def file_cards(engine):
    """File some in a transaction of its own; return how many."""
    with Session(engine) as session:
        if engine.dialect.name == "postgresql":
            session.execute(text(f"SET LOCAL lock_timeout = '{DEADLINE}s'"))
        result = Card.file.bulk(session, where=true(), limit=AT_ONCE)
        session.commit()
        return result.moved


def rows_sorted(plan):
    """How many rows each sort of a plan of PostgreSQL expects."""
    if plan["Node Type"] in {"Sort", "Incremental Sort"}:
        yield plan["Plans"][0]["Plan Rows"]
    for part in plan.get("Plans", ()):
        yield from rows_sorted(part)


def explained(engine, prefix):
    """Let a bulk move be sent, and return how the database would do it again."""
    sent = []

    def note(_connection, _cursor, statement, parameters, *_more):
        if "cards" in statement:
            sent.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    assert file_cards(engine) == AT_ONCE
    event.remove(engine, "before_cursor_execute", note)
    with engine.connect() as connection:
        return [
            connection.exec_driver_sql(f"{prefix} {statement}", parameters).all()
            for statement, parameters in sent
        ]


@pytest.fixture
def full(engine):
    """An engine whose table has few cards left to file, and knows it."""
    new_cards(engine, MANY, Step.OLD)
    new_cards(engine, LEFT, first=MANY + 1)
    with engine.connect() as connection:
        connection.execute(text("ANALYZE"))
        connection.commit()
    return engine


def test_it_sorts_nothing_of_what_it_leaves(full):
    if full.dialect.name == "sqlite":
        steps = [
            row[-1] for rows in explained(full, "EXPLAIN QUERY PLAN") for row in rows
        ]
        assert any("INDEX ix_cards_state (state=?)" in step for step in steps), steps
        assert not any("ORDER BY" in step for step in steps), steps
        return
    plans = [rows[0][0][0]["Plan"] for rows in explained(full, "EXPLAIN (FORMAT JSON)")]
    assert max([0, *(n for plan in plans for n in rows_sorted(plan))]) <= AT_ONCE


def test_steps_take_all_of_it(engine):
    new_cards(engine, 2 * AT_ONCE + 1)

    assert [file_cards(engine) for _ in range(4)] == [AT_ONCE, AT_ONCE, 1, 0]


@pytest.mark.postgres
class TestBesideOthers:
    @pytest.fixture
    def engine(self, postgres_url):
        with shop_engine(postgres_url, Base) as opened:
            yield opened

    def test_those_that_others_hold_are_left_to_a_later_call(self, engine):
        new_cards(engine, AT_ONCE + 2)
        with Session(engine) as other:
            held = other.scalars(
                select(Card).where(Card.id <= AT_ONCE).with_for_update()
            ).all()

            assert len(held) == AT_ONCE
            assert file_cards(engine) == 2

    @pytest.mark.parametrize("is_moved", [False, True])
    def test_it_waits_for_them_when_no_other_is_left(self, engine, is_moved):
        new_cards(engine, 2)
        found = []
        with Session(engine) as other:
            state = Step.OLD if is_moved else Step.NEW
            other.connection().execute(update(Card.__table__).values(state=state))
            thread = threading.Thread(target=lambda: found.append(file_cards(engine)))
            thread.start()
            wait_for_a_lock(engine)
            other.commit()
            thread.join(DEADLINE)

        assert found == [0 if is_moved else 2]

    def test_two_share_the_work(self, engine):
        new_cards(engine, 2 * AT_ONCE)
        with Session(engine) as one, Session(engine) as other:
            moved = [
                Card.file.bulk(session, where=true(), limit=AT_ONCE).moved
                for session in (one, other)
            ]
            one.commit()
            other.commit()

        assert moved == [AT_ONCE, AT_ONCE]
        assert file_cards(engine) == 0
