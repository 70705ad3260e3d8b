"""The law of every end: a job has an outcome exactly when it has ended, one of its state."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from statejobs.store.tables import jobs
from statejobs.values.job import ENDED, JobOutcome


def ended_as_it_says(job):
    """Whether a row of a job says how it ended, or that it lives, and not otherwise."""
    if job.outcome is None:
        return job.state not in ENDED
    return JobOutcome(job.outcome).state == job.state


def ended_in(state):
    """An outcome of jobs in *state*; None while they live."""
    return next((one for one in JobOutcome if one.state == state), None)


def wrong_ends(bind):
    """What jobs say against that law; empty in a sound database."""
    with Session(bind) as session:
        rows = session.execute(select(jobs.c.id, jobs.c.state, jobs.c.outcome)).all()
    return [
        f"job {row.id} is {row.state}, and ended as {row.outcome}"
        for row in rows
        if not ended_as_it_says(row)
    ]
