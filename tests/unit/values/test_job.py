"""A job is a value whose fields are the columns of its row."""

from typing import get_args

import pytest
from msgspec import structs

from statejobs import JobOutcome, JobState
from statejobs.store.tables import jobs
from statejobs.values.job import ENDED, Job, OutcomeName

FIELDS = Job.__struct_fields__
VALUES = {name: f"value of {name}" for name in FIELDS}


def test_a_job_has_a_field_for_each_column_in_the_same_order():
    assert tuple(column.name for column in jobs.columns) == FIELDS


def test_each_outcome_belongs_to_a_state_in_which_jobs_end_and_has_a_name_as_text():
    assert {outcome.state for outcome in JobOutcome} == {*ENDED}
    assert get_args(OutcomeName) == tuple(JobOutcome)


def test_nothing_of_a_job_can_be_set_or_left_out():
    with pytest.raises(AttributeError):
        Job(**VALUES).attempt = 2
    with pytest.raises(TypeError, match="Missing required argument"):
        Job(*[*VALUES.values()][1:])


def test_a_changed_job_is_a_copy():
    job = Job(**VALUES)

    processing = structs.replace(job, state=JobState.PROCESSING, attempt=2)

    assert processing == Job(**{**VALUES, "state": JobState.PROCESSING, "attempt": 2})
    assert job == Job(**VALUES)


@pytest.mark.parametrize(("attempt", "is_last"), [(1, False), (4, False), (5, True)])
def test_a_job_knows_its_last_attempt(attempt, is_last):
    job = Job(**{**VALUES, "attempt": attempt, "max_attempts": 5})

    assert job.is_last_attempt is is_last
