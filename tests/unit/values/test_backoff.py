import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statejobs.values.backoff import (
    LONGEST,
    Custom,
    Exponential,
    Fixed,
    Table,
    backoff_of,
    safe_delay,
)

OBAN_SECONDS = {
    1: 17,
    2: 19,
    3: 23,
    4: 31,
    5: 47,
    6: 79,
    7: 143,
    8: 271,
    9: 527,
    10: 1039,
    15: 32783,
    19: 524303,
    20: 1048591,
}
MINUTE = timedelta(minutes=1)
RNG = random.Random(0)


@pytest.mark.parametrize(("attempt", "seconds"), OBAN_SECONDS.items())
def test_waits_as_long_as_oban_within_the_jitter(attempt, seconds, seed):
    rng = random.Random(seed)

    for _ in range(50):
        wait = Exponential().delay(attempt, None, rng).total_seconds()

        assert seconds <= wait < seconds * 1.1


def test_equal_seeds_wait_equally():
    waits = [Exponential().delay(3, None, random.Random(7)) for _ in range(2)]

    assert waits[0] == waits[1]


@given(st.integers(-5, 10**6) | st.just(10**9), st.floats(0, 1))
def test_no_attempt_overflows_or_passes_the_cap(attempt, jitter):
    wait = Exponential(jitter=jitter).delay(attempt, None, RNG)

    assert timedelta(seconds=15) <= wait <= timedelta(days=14)


def test_cap_bounds_the_wait():
    assert Exponential(cap=MINUTE).delay(20, None, RNG) == MINUTE


def test_last_entry_of_a_table_repeats():
    table = Table((MINUTE, 2 * MINUTE))

    assert [table.delay(n, None, RNG) for n in (0, 1, 2, 3, 99)] == [
        MINUTE,
        MINUTE,
        2 * MINUTE,
        2 * MINUTE,
        2 * MINUTE,
    ]


@pytest.mark.parametrize(
    ("value", "backoff"),
    [
        (None, Exponential()),
        (MINUTE, Fixed(MINUTE)),
        (timedelta(), Fixed(timedelta())),
        ([MINUTE], Table((MINUTE,))),
        (Fixed(MINUTE), Fixed(MINUTE)),
    ],
)
def test_reads_each_form_of_backoff(value, backoff):
    assert backoff_of(value) == backoff


def test_a_function_gets_attempt_and_error():
    error = ValueError("no")
    backoff = backoff_of(
        lambda attempt, cause: attempt * MINUTE if cause is error else MINUTE
    )

    assert safe_delay(backoff, 3, error, RNG) == (3 * MINUTE, None)


async def _async_backoff(_attempt, _error):
    return MINUTE


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-MINUTE, "Fixed: wait must not be negative"),
        ([MINUTE, -MINUTE], "Table: wait 2 must not be negative"),
        ([MINUTE, 5], "Table: wait 2 must be a timedelta, not 5"),
        ([], "Table: needs at least one wait"),
        (30, r"say timedelta\(seconds=30\)"),
        ("1m", "cannot use '1m'"),
        (Exponential, r"is a class; say Exponential\(...\)"),
        (_async_backoff, "is async"),
    ],
)
def test_refuses_what_is_no_backoff(value, message):
    with pytest.raises(ValueError, match=message):
        backoff_of(value)


@pytest.mark.parametrize(
    "options", [{"jitter": -0.1}, {"jitter": 2}, {"base": -MINUTE}, {"cap": 1}]
)
def test_refuses_nonsense_options(options):
    with pytest.raises(ValueError, match=f"Exponential: {next(iter(options))}"):
        Exponential(**options)


def _raises(attempt, _error):
    raise SystemExit(attempt)


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (_raises, SystemExit),
        (lambda _attempt, _error: 30, ValueError),
        (lambda _attempt, _error: None, ValueError),
        (lambda _attempt, _error: -MINUTE, ValueError),
        (lambda: MINUTE, TypeError),
    ],
    ids=["raises", "int", "none", "negative", "arity"],
)
def test_a_broken_function_does_not_lose_the_failure(function, problem):
    wait, broken = safe_delay(Custom(function), 1, None, random.Random(1))

    assert wait == Exponential().delay(1, None, random.Random(1))
    assert isinstance(broken, problem)


def test_an_endless_wait_is_cut_to_what_a_database_holds():
    assert safe_delay(Fixed(timedelta.max), 1, None, RNG) == (LONGEST, None)
