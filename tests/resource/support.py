"""What the tests of the resource layer share."""

from enum import StrEnum

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


def context(session, record=None, **changes):
    """A context as a test makes one, of the job that waits for *record*."""
    waiting = [job for job in read_jobs(session.get_bind())]
    job = next((j for j in waiting if record is None or j.record_id == str(record.id)), None)
    return JobContext(session=session, job=job, now=StoppedClock().now(), **changes)


def set_jobs(engine, **values):
    """Write *values* to every job, as a worker or a person might have."""
    with engine.begin() as connection:
        connection.execute(jobs.update().values(**values))
