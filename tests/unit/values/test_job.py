"""A job is a value whose fields are the columns of its row."""

import pytest
from msgspec import structs

from statejobs import JobState
from statejobs.store.tables import jobs
from statejobs.values.job import Job

FIELDS = Job.__struct_fields__
VALUES = {name: f"value of {name}" for name in FIELDS}


def test_a_job_has_a_field_for_each_column_in_the_same_order():
    assert tuple(column.name for column in jobs.columns) == FIELDS


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
