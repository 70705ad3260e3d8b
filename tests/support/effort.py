"""How much a database does for what we ask: no clock that a busy machine could slow is asked."""

from sqlalchemy import event
from sqlalchemy.engine import Engine

_STEPS = 100


def effort_of(act, engine):
    """Return how much *engine* does for the selects about jobs that *act* sends.

    Pages read on PostgreSQL; hundreds of steps of its machine on SQLite.
    """
    sent = selects_of(act)
    assert sent
    measure = _pages if engine.dialect.name == "postgresql" else _steps
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        done = sum(measure(driver, *one) for one in sent)
        connection.rollback()
    return done


def selects_of(act):
    """Return the selects about jobs that *act* sends: text and parameters of each."""
    sent = []

    def note(_connection, _cursor, statement, parameters, *_more):
        if "statejobs_jobs" in statement and statement.lstrip().startswith(
            ("SELECT", "WITH")
        ):
            sent.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        act()
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    return sent


def _pages(driver, statement, parameters):
    explained = f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {statement}"
    plan = driver.execute(explained, parameters).fetchone()[0][0]["Plan"]
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


def _steps(driver, statement, parameters):
    steps = 0

    def count():
        nonlocal steps
        steps += 1

    driver.set_progress_handler(count, _STEPS)
    try:
        driver.execute(statement, parameters).fetchall()
    finally:
        driver.set_progress_handler(None, 0)
    return steps
