"""How samples of another clock set and slew ours; no database, no thread."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from statejobs.values.anchor import AGREEING, Anchor, Sample
from statejobs.values.clock import SLEW

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1).total_seconds()

errors = st.floats(-0.9, 0.9)
steps = st.floats(0.0, 30.0)
round_trips = st.floats(0.0001, 0.2)


def sample(monotonic, *, ahead=0.0, round_trip=0.001):
    """What a clock tells that showed noon at monotonic zero, and is *ahead* of that."""
    told = NOON + timedelta(seconds=monotonic + ahead)
    half = round_trip / 2
    return Sample(told=told, sent=monotonic - half, received=monotonic + half)


def ahead(anchor, monotonic):
    """Seconds by which the anchored time is ahead of noon plus *monotonic*."""
    return (anchor.course.at(monotonic) - NOON).total_seconds() - monotonic


@given(st.floats(-DAY, DAY))
def test_the_first_sample_counts_at_once(seconds):
    anchor = Anchor()

    assert anchor.take(sample(0, ahead=seconds), at=0)
    assert abs(ahead(anchor, 5) - seconds) < 1e-3


@given(st.lists(st.tuples(steps, errors, round_trips), min_size=1, max_size=30))
def test_differences_within_the_tolerance_never_turn_the_time_back(story):
    anchor, at, shown = Anchor(), 0.0, []
    for step, error, round_trip in story:
        at += step
        anchor.take(sample(at, ahead=error / 2, round_trip=round_trip), at=at)
        shown += [anchor.course.at(at), anchor.course.at(at + 1e-3)]
        at += 1e-3

    assert all(before <= after for before, after in pairwise(shown))


@given(errors)
def test_a_small_difference_is_slewed_away(error):
    anchor = Anchor()
    anchor.take(sample(0), at=0)

    anchor.take(sample(1, ahead=error, round_trip=0.0005), at=1)

    assert abs(ahead(anchor, 1)) < 1e-3
    assert abs(ahead(anchor, 1 + abs(error) / SLEW) - error) < 1e-3


@given(st.lists(round_trips, min_size=1, max_size=8))
def test_the_sample_of_least_round_trip_counts(trips):
    anchor = Anchor()
    for number, round_trip in enumerate(trips):
        # whoever is slow is wrong by as much as it can be
        anchor.take(
            sample(number, ahead=round_trip / 2, round_trip=round_trip), at=number
        )

    assert abs(ahead(anchor, 100) - min(trips) / 2) < 1e-3


@given(st.floats(2.0, DAY) | st.floats(-DAY, -2.0))
def test_a_large_difference_needs_samples_that_agree_and_is_then_set(seconds):
    anchor = Anchor()
    anchor.take(sample(0), at=0)

    for second in range(1, AGREEING):
        assert not anchor.take(sample(second, ahead=seconds), at=second)
        assert anchor.is_contradicted
        assert abs(ahead(anchor, second)) < 1e-3
    assert anchor.take(sample(AGREEING, ahead=seconds), at=AGREEING)

    assert not anchor.is_contradicted
    assert abs(ahead(anchor, AGREEING) - seconds) < 1e-3


@given(st.integers(2, 30))
def test_samples_that_contradict_each_other_change_nothing(number):
    anchor = Anchor()
    anchor.take(sample(0), at=0)

    for second in range(1, number):
        anchor.take(sample(second, ahead=second * 600), at=second)

    assert anchor.is_contradicted
    assert abs(ahead(anchor, number)) < 1e-3


def test_a_slow_answer_is_no_contradiction():
    """A process that stood still between question and answer knows little of the time."""
    anchor = Anchor()
    anchor.take(sample(0), at=0)

    anchor.take(sample(60, ahead=-19, round_trip=40), at=80)

    assert not anchor.is_contradicted
    assert abs(ahead(anchor, 100)) < 1e-3


def test_samples_of_a_lie_are_forgotten_at_the_next_that_agrees():
    anchor = Anchor()
    anchor.take(sample(0), at=0)

    for second in range(1, 20):
        is_lie = second % AGREEING > 0
        anchor.take(sample(second, ahead=600 if is_lie else 0), at=second)

    assert abs(ahead(anchor, 20)) < 1e-3
