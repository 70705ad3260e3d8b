"""What `Unique` refuses, and what it says of a key."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statejobs import DefinitionError, JobState, Unique, WrongValueError
from statejobs.values.arguments import Signature
from statejobs.values.unique import held_until, is_duplicate
from statejobs.values.unique_key import LONGEST, UniqueKeys, dedupe_key

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
S = JobState


def said(refused):
    """What the refusal says, a part on each line."""
    return [line.strip() for line in str(refused.value).splitlines()]


@pytest.mark.parametrize(
    ("options", "what", "fix"),
    [
        (
            {"on_conflict": "skipp"},
            "Unique: on_conflict='skipp'",
            "did you mean 'skip'?",
        ),
        ({"while_": "lives"}, "Unique: while_='lives'", "did you mean 'live'?"),
        (
            {"period": timedelta()},
            "Unique: period=0:00:00",
            "give a positive timedelta, or leave it out to hold the key while the job lives",
        ),
        (
            {"by": ["a", "a"]},
            "Unique: by names 'a' twice",
            "leave out one of them",
        ),
        (
            {"on_conflict": "replace", "replace": ["arg"]},
            "Unique: replace names 'arg', which no request replaces",
            "did you mean 'args'?",
        ),
        (
            {"on_conflict": "replace", "replace": {S.PROCESSING: ["args"]}},
            "Unique: replace maps <JobState.PROCESSING: 'processing'>, which is no state in "
            "which a job waits",
            "map JobState.SCHEDULED, JobState.QUEUED, JobState.FAILED",
        ),
        (
            {"replace": ["args"]},
            "Unique: replace= is given, and on_conflict='skip'",
            "say on_conflict='replace', or leave out replace=",
        ),
        (
            {"on_conflict": "replace"},
            "Unique: on_conflict='replace', and replace= names nothing",
            "name what is overwritten: replace=['args', 'run_at']; or leave out on_conflict",
        ),
        (
            {"period": HOUR, "while_": "waiting"},
            "Unique: period= is given, and while_='waiting'",
            "leave out one of them",
        ),
        (
            {"on_conflict": "run_again", "while_": "waiting"},
            "Unique: on_conflict='run_again', and while_='waiting'",
            "leave out one of them",
        ),
    ],
)
def test_what_no_one_can_mean_is_refused(options, what, fix):
    with pytest.raises(DefinitionError) as refused:
        Unique(**options)

    lines = said(refused)
    assert (lines[0], lines[2]) == (what, f"fix: {fix}")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"period": 60},
            "Unique: period must be a timedelta, not 60; say timedelta(seconds=60)",
        ),
        (
            {"by": "customer"},
            "Unique: by= takes a collection, not 'customer' alone; say [\"customer\"]",
        ),
        ({"by": [7]}, 'Unique: by=: each must be text, not 7; say ["customer"]'),
        (
            {"on_conflict": 1},
            "Unique: on_conflict must be text, not 1; say 'skip'",
        ),
        (
            {"on_conflict": "replace", "replace": "args"},
            "Unique: replace= takes a collection, not 'args' alone; say [\"args\"]",
        ),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(options, text):
    with pytest.raises(WrongValueError) as refused:
        Unique(**options)

    assert str(refused.value) == text


def test_it_is_a_value():
    assert Unique(by=["a"], period=HOUR) == Unique(by=("a",), period=HOUR)
    assert len({Unique(), Unique(on_conflict="skip"), Unique(period=HOUR)}) == 2
    one = Unique(on_conflict="replace", replace={S.FAILED: ["args"]})
    assert replace(one) == one


@pytest.mark.parametrize(
    ("state", "live", "waiting", "within", "over"),
    [
        (S.SCHEDULED, True, True, True, True),
        (S.QUEUED, True, True, True, True),
        (S.FAILED, True, True, True, True),
        (S.PROCESSING, True, False, True, True),
        (S.COMPLETED, False, False, True, False),
        (S.CANCELLED, False, False, False, False),
        (S.DISCARDED, False, False, False, False),
    ],
)
def test_what_makes_a_request_a_duplicate(state, live, waiting, within, over):
    def is_one(unique, until=None):
        return is_duplicate(unique, state, until=until, now=NOON)

    assert is_one(Unique()) is live
    assert is_one(Unique(while_="waiting")) is waiting
    later = NOON + timedelta(microseconds=1)
    assert is_one(Unique(period=HOUR), later) is within
    assert is_one(Unique(period=HOUR), NOON) is over
    assert is_one(Unique(), later) is live


def test_what_a_request_changes_is_no_duplicate():
    def are(unique):
        found = [is_duplicate(unique, s, until=None, now=NOON) for s in JobState]
        return [s for s, is_one in zip(JobState, found, strict=True) if is_one]

    some = {S.SCHEDULED: ["args"], S.FAILED: []}
    assert are(Unique(on_conflict="run_again")) == []
    assert are(Unique(on_conflict="replace", replace=["args"])) == [S.PROCESSING]
    assert are(Unique(on_conflict="replace", replace=some)) == [
        S.QUEUED,
        S.PROCESSING,
        S.FAILED,
    ]


def test_until_when_a_key_is_held():
    assert held_until(None, NOON) is None
    assert held_until(Unique(), NOON) is None
    assert held_until(Unique(period=HOUR), NOON) == NOON + HOUR


# Keys --------------------------------------------------------------------------------------------


def send(customer: int, items: list[str], *, note: str = "none", low: object = 1): ...


SIGNATURE = Signature.of(send, name="send", skip=0)
MARKED = {"queue": "default", "tenant": None, "actor": None}


def test_it_has_what_by_names_in_one_order():
    args = SIGNATURE.encode_call((7, ["x"]), {})

    def shared(by):
        return UniqueKeys(by, SIGNATURE).shared(args, {**MARKED, "tenant": "acme"})

    assert shared(["items", "customer"]) == '{"customer":7,"items":["x"]}'
    assert shared(["note"]) == '{"note":"none"}'
    assert shared([]) == "{}"
    assert shared(["customer", "tenant"]) == '{"customer":7,"@tenant":"acme"}'


names = st.sampled_from(["customer", "items", "note"])
calls = st.fixed_dictionaries(
    {
        "customer": st.integers(-3, 3),
        "items": st.lists(st.text(max_size=2), max_size=2),
    },
    optional={"note": st.sampled_from(["none", "x"])},
)


@given(calls, calls, st.lists(names, unique=True))
def test_two_requests_share_a_key_exactly_when_they_share_what_by_names(one, other, by):
    keys = UniqueKeys(by, SIGNATURE)

    def key(call):
        return dedupe_key("k", keys.shared(SIGNATURE.encode_call((), call), MARKED))

    def chosen(call):
        return [{"note": "none", **call}[name] for name in by]

    assert (key(one) == key(other)) == (chosen(one) == chosen(other))


@given(st.text(min_size=LONGEST - 20, max_size=LONGEST + 5))
def test_no_key_is_longer_than_an_index_takes(shared):
    key = dedupe_key("digest.send", shared)

    assert key.startswith("digest.send:")
    assert len(key.encode()) <= LONGEST
