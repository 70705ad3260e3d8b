"""Which rows a sweep reads beside many that are not due: by the index, in its order."""

import pytest
from sqlalchemy import insert, text

from tests.support.plans import recording
from tests.support.tickets import (
    DAY,
    HOUR,
    Ticket,
    TicketState,
    office,
    put,
    states,
    timeout_of,
)

S = TicketState
MANY = 20_000


@pytest.fixture
def app(database_url):
    with office(database_url) as opened:
        since = opened.sources.clock.now() - HOUR
        row = {"state_version": 1, "state_changed_at": since}
        rows = [
            {"id": 1_000 + n, "state": state, "is_kept": False, "tries": 0, **row}
            for n, state in enumerate([S.OPEN, S.ASKED] * (MANY // 2))
        ]
        with opened.engine.begin() as connection:
            connection.execute(insert(Ticket.__table__), rows)
        with opened.engine.connect() as connection:
            connection.execute(text("ANALYZE"))
            connection.commit()
        yield opened


@pytest.mark.parametrize(
    ("key", "source"), [("Ticket.expire", S.OPEN), ("Ticket.ask_again", S.ASKED)]
)
def test_a_sweep_reads_what_is_due_and_sorts_nothing(app, key, source):
    put(app, source, 40, age=2 * DAY)
    timeout, cursor = timeout_of(app, key), None

    with recording("tickets") as seen:
        for _ in range(3):
            swept = app._sweeper.sweep(timeout, cursor, most=15)
            cursor = swept.cursor

    assert list(states(app).values()).count(source) == MANY // 2
    plans = {text: plan_of(app.engine, text, given) for text, given in seen.items()}
    assert [plan for plan in plans.values() if reads_all(plan)] == []
    finds = [plan for text, plan in plans.items() if "ORDER BY tickets.state" in text]
    assert len(finds) == 2  # from the start, and from behind a record
    assert not any("Sort" in plan or "TEMP B-TREE" in plan for plan in finds)
    assert all("ix_tickets_timeouts" in plan for plan in finds)


def plan_of(engine, statement, parameters):
    """What the database does for *statement*, as it was sent."""
    explain = "EXPLAIN QUERY PLAN" if engine.dialect.name == "sqlite" else "EXPLAIN"
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(f"{explain} {statement}", parameters)
        return "\n".join(str(row[-1]) for row in rows)


def reads_all(plan):
    return "Seq Scan on tickets" in plan or "SCAN tickets" in plan


def test_many_are_moved_by_five_statements(app):
    put(app, S.OPEN, 2_000, age=2 * DAY, first=MANY + 1_000)

    with recording("tickets", "statejobs_jobs", "statejobs_transitions") as seen:
        swept = app._sweeper.sweep(timeout_of(app, "Ticket.expire"))

    assert swept.moved == 2_000
    assert len(seen) <= 5
