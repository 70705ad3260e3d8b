"""The counts of an act on many jobs: one line for each reason, whatever job it is of."""

from msgspec import structs

from statejobs import Handled, StateJobsError, Unhandled
from statejobs.people.handled import OTHERWISE, Verdicts
from tests.unit.values.test_lifecycle import JOB


def refused(number, why, **fields):
    """A job that was refused for that reason."""
    job = structs.replace(
        JOB, id=number, resource="Order", record_id=str(number), **fields
    )
    return job, StateJobsError("it stays", why=why.format(job=job))


def verdicts(*refusals):
    found = Verdicts()
    for job, error in refusals:
        found.refuse(job, error)
    return found


def test_what_names_a_job_or_its_record_is_one_reason():
    of_records = [
        refused(n, "a newer job serves Order {job.record_id}") for n in (7, 8)
    ]
    of_jobs = [refused(n, "job {job.id} is odd") for n in (9, 10)]
    of_keys = [
        refused(n, "it has its key, {job.dedupe_key}, too", dedupe_key=f"a:{n}")
        for n in (11, 12)
    ]

    handled = Handled().and_also(verdicts(*of_records, *of_jobs, *of_keys))

    assert handled.refused == (
        Unhandled(why="a newer job serves its record", count=2, job_id=7),
        Unhandled(why="the job is odd", count=2, job_id=9),
        Unhandled(why="it has its key, too", count=2, job_id=11),
    )


def test_batches_are_counted_together_and_the_first_job_of_a_reason_stays():
    first = verdicts(refused(1, "no"))
    second = verdicts(refused(2, "no"), refused(3, "never"))
    second.done.append(JOB)
    second.asked.append(JOB)
    second.locked.append(JOB)

    handled = Handled().and_also(first).and_also(second)

    assert handled == Handled(
        done=1,
        asked=1,
        locked=1,
        refused=(
            Unhandled(why="no", count=2, job_id=1),
            Unhandled(why="never", count=1, job_id=3),
        ),
    )
    assert (handled.refused_count, handled.total) == (3, 6)


def test_no_more_than_twenty_reasons_are_kept_apart():
    many = verdicts(*(refused(n, f"reason {n}") for n in range(1, 31)))

    handled = Handled().and_also(many).and_also(many)

    assert len(handled.refused) == 21
    assert handled.refused[-1].why == OTHERWISE
    assert handled.refused_count == 60
