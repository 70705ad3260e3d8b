"""What the tests of the resource layer share."""

from contextlib import contextmanager
from enum import StrEnum

from sqlalchemy import event

from statejobs import JobContext
from statejobs.store.tables import jobs
from tests.support.shop import StoppedClock, read_jobs


class Step(StrEnum):
    """States of the small resources that tests declare themselves."""

    NEW = "new"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    OLD = "old"


def context(session, record):
    """A context as a test makes one: of the job of *record*."""
    job = next((j for j in read_jobs(session.get_bind()) if j.record_id == str(record.id)), None)
    return JobContext(session=session, job=job, now=StoppedClock().now())


def charges(engine):
    """The jobs of orders as committed, oldest first: (id of the order, state)."""
    return [(int(job.record_id), job.state) for job in read_jobs(engine)]


def set_jobs(engine, **values):
    """Write *values* to every job, as a worker or a person might have."""
    with engine.begin() as connection:
        connection.execute(jobs.update().values(**values))


@contextmanager
def statements_on(engine):
    """Yield a function that counts the statements sent since then; an executemany is one."""
    sent = []

    def note(_connection, _cursor, statement, *_):
        sent.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield lambda part: sum(part in statement for statement in sent)
    finally:
        event.remove(engine, "before_cursor_execute", note)
