"""Jobs are made without their constructor where many are made."""

from dataclasses import FrozenInstanceError, replace

import pytest

from statejobs import JobState
from statejobs.domain.job import JOB_FIELDS, Job, changed, job_from
from statejobs.store.tables import jobs

VALUES = {name: f"value of {name}" for name in JOB_FIELDS}


def test_a_job_has_a_field_for_each_column_in_the_same_order():
    assert tuple(column.name for column in jobs.columns) == JOB_FIELDS


def test_a_job_of_values_is_the_one_that_the_constructor_makes():
    job = job_from([*VALUES.values()])

    assert job == Job(**VALUES)
    with pytest.raises(FrozenInstanceError):
        job.attempt = 2


def test_a_missing_value_is_refused():
    with pytest.raises(ValueError, match="shorter"):
        job_from([*VALUES.values()][1:])


def test_a_changed_job_is_a_copy():
    job = Job(**VALUES)
    changes = {"state": JobState.PROCESSING, "attempt": 2}

    assert changed(job, **changes) == replace(job, **changes)
    assert job == Job(**VALUES)
