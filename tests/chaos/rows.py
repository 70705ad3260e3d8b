"""Rows that would stop a queue if one record could: none of them may cost the others anything."""

from contextlib import suppress
from datetime import timedelta

from sqlalchemy import insert, literal_column, update
from sqlalchemy.exc import SQLAlchemyError

from statejobs.store.tables import jobs
from statejobs.values.job import JobState
from tests.chaos.app import FOREIGN, Does, Errand
from tests.chaos.field import Field
from tests.chaos.fleet import now
from tests.chaos.submitter import new_id

_BACKLOG = 1000  # jobs
_RIVALS = 3
_NO_JSON = literal_column("'{'")
_NO_TIME = literal_column("'-infinity'")


def submit_refused(field: Field) -> None:
    """Submit an errand that the database lets not begin."""
    field.submit({new_id(field.rng): Does.REFUSED})


def submit_rivals(field: Field) -> None:
    """Submit errands of one customer, of which one may run at a time."""
    customer = new_id(field.rng)

    def dress(_session, errands) -> None:
        for errand in errands:
            errand.customer = customer

    field.submit({new_id(field.rng): Does.QUEUE_UP for _ in range(_RIVALS)}, dress)


def submit_unreadable(field: Field) -> None:
    """Submit an errand that cannot be loaded, and one whose job cannot be read."""
    field.submit(
        {new_id(field.rng): does for does in (Does.GARBLED, Does.UNREAD)}, garble
    )


def garble(session, errands) -> None:
    """Write what no column type decodes into the row of an errand, or of its job."""
    session.flush()
    for errand in errands:
        match errand.does:
            case Does.GARBLED:
                mine = Errand.__table__.c.id == errand.id
                session.execute(
                    update(Errand.__table__).where(mine).values(note=_NO_JSON)
                )
            case Does.UNREAD:
                mine = jobs.c.record_id == f'"{errand.id}"'
                session.execute(update(jobs).where(mine).values(enqueued_at=_NO_TIME))


def flood(field: Field) -> None:
    """Put a backlog of another app before ours, half of it to be staged."""
    states = [JobState.QUEUED.value, JobState.SCHEDULED.value]
    long_ago = now() - timedelta(days=1)
    rows = [
        {
            "key": FOREIGN + states[number % 2],
            "queue": "errands",
            "priority": 0,
            "state": states[number % 2],
            "run_at": long_ago,
            "args": "{}",
            "tags": "{}",
            "idempotency_key": new_id(field.rng),
            "max_attempts": 1,
            "enqueued_at": long_ago,
        }
        for number in range(_BACKLOG)
    ]

    def insert_all() -> bool:
        with suppress(SQLAlchemyError), field.engine.begin() as connection:
            connection.execute(insert(jobs), rows)
            return True
        return False

    field.until(insert_all)
