"""Does an act to many jobs: a batch at a time, each committed by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from statejobs.errors import NotFoundError, StateJobsError
from statejobs.people.desk import Desk
from statejobs.people.handled import Handled, Verdicts
from statejobs.people.taking import Chosen
from statejobs.runner.blame import Blame, blame_for
from statejobs.runner.halves import in_halves
from statejobs.store.faults import words_of
from statejobs.store.filters import Filters
from statejobs.values.failure import first_line
from statejobs.values.job import Job

Act = Callable[[Desk, Chosen], Verdicts]
"""Does something to the jobs of a batch, with a transaction; they are refused, or all done."""
OnBatch = Callable[[Handled], object]
"""Called after each commit, with the counts so far."""

AT_ONCE = 500
"""Jobs of one transaction."""
_LOOKED_FOR = 10_000
"""Ids that are found with one query."""
_TRIES = 3


def act_on_one(desk: Desk, act: Act, job_id: int) -> Job:
    """Do *act* to one job, waiting for whoever holds it; return it as it was before.

    Raises:
        NotFoundError: No such job.
        StateJobsError: Why it is refused.
    """
    for _ in range(_TRIES):
        job = job_with(desk, job_id)
        verdicts = act(desk, Chosen(jobs=[job], waits=True))
        for _, error in verdicts.refused:
            raise error
        if not verdicts.locked:
            return job
    raise StateJobsError(f"job {job_id} changed a moment ago", fix="look at it again")


def act_on_all(desk: Desk, act: Act, filters: Filters, on_batch: OnBatch) -> Handled:
    """Do *act* to the jobs that *filters* mean now, the oldest first; return how many.

    Whatever interrupts it, what is committed stays.

    Raises:
        NotFoundError: There are none, and a queue, key or resource that nobody knows is named.
    """
    handled = Handled()
    for ids in _batches_of(desk, filters):
        jobs = desk.queries.matching.oldest_first(replace(filters, ids=ids))
        handled = handled.and_also(_act_on(desk, act, jobs))
        on_batch(handled)
    if not handled.total:
        desk.queries.matching.refuse_unknown(filters)
    return handled


def job_with(desk: Desk, job_id: int) -> Job:
    """Return one job.

    Raises:
        NotFoundError: No such job.
    """
    job = desk.queries.job(job_id)
    if job is None:
        raise NotFoundError(
            f"no job {job_id}",
            fix="list them with: statejobs job list",
        )
    return job


def _batches_of(desk: Desk, filters: Filters) -> Iterator[tuple[int, ...]]:
    """Yield the ids of those that are there now, the smallest first; none of them twice."""
    matching = desk.queries.matching
    until = matching.newest_id()
    after = 0
    while found := matching.ids(filters, after=after, until=until, limit=_LOOKED_FOR):
        for start in range(0, len(found), AT_ONCE):
            yield tuple(found[start : start + AT_ONCE])
        after = found[-1]


def _act_on(desk: Desk, act: Act, jobs: Sequence[Job]) -> Verdicts:
    """Do *act* to *jobs* with one transaction; in parts, when one of them does not let it be."""
    verdicts = Verdicts()

    def act_on(part: Sequence[Job]) -> None:
        verdicts.add(act(desk, Chosen(jobs=part, waits=False)))

    if jobs:
        in_halves(jobs, act_on, partial(_is_blamed, verdicts), whole_first=True)
    return verdicts


def _is_blamed(verdicts: Verdicts, part: Sequence[Job], error: Exception) -> bool:
    """Note why *part*, if it is one job, was left as it is.

    Raises:
        Exception: It concerns everyone.
    """
    blame = blame_for(error)
    if blame is Blame.EVERYONE:
        raise error
    if len(part) > 1:
        return False
    (job,) = part
    if blame in {Blame.MOMENT, Blame.LOCK}:
        verdicts.locked.append(job)
    else:
        verdicts.refuse(job, _as_ours(job, error))
    return True


def _as_ours(job: Job, error: Exception) -> StateJobsError:
    if isinstance(error, StateJobsError):
        return error
    said = words_of(error) if hasattr(error, "orig") else first_line(error)
    return StateJobsError(
        f"job {job.id} was left as it is", why=f"{type(error).__name__}: {said}"
    )
