"""How long a job waits that was put back."""

import random
from datetime import timedelta

import pytest

from statejobs.values.waiting import wait_again


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


@pytest.mark.parametrize(
    ("waited", "at_least"),
    [(-3, 5), (0, 5), (4, 5), (60, 60), (599, 599), (10**6, 600)],
)
def test_waits_as_long_again_as_it_has_waited_within_bounds(waited, at_least):
    wait = wait_again(seconds(waited), random.Random(1))

    assert seconds(at_least) <= wait <= seconds(at_least) * 1.25


def test_jobs_put_back_together_do_not_come_back_together():
    rng = random.Random(1)

    assert len({wait_again(seconds(60), rng) for _ in range(20)}) == 20


def test_the_bounds_are_the_callers():
    wait = wait_again(
        seconds(100), random.Random(1), least=seconds(1), most=seconds(60)
    )

    assert seconds(60) <= wait <= seconds(75)
