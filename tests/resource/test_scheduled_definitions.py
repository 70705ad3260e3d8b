"""What cannot be a scheduled action, said when it is declared."""

import pytest

from statejobs import Domain, JobContext, StateJobs, Unique, scheduled_action
from statejobs.errors import DefinitionError, WrongValueError


def declare(body=None, **options):
    def plain() -> None:
        """Nothing."""

    return scheduled_action("bell.ring", **{"cron": "@hourly", **options})(
        body or plain
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"catch_up": "al"},
            "scheduled action 'bell.ring': catch_up='al'\n"
            "  why: it is one of 'none', 'last', 'all'\n"
            "  fix: did you mean 'all'?",
        ),
        (
            {"overlap": "wait"},
            "scheduled action 'bell.ring': overlap='wait'\n"
            "  why: it is one of 'skip', 'queue'\n"
            "  fix: known: queue, skip",
        ),
        (
            {"overlap": "queue", "unique": Unique()},
            "scheduled action 'bell.ring': overlap='queue', and unique= is given\n"
            "  why: each tick would have a job of its own, and one at a time\n"
            "  fix: leave out one of them",
        ),
    ],
)
def test_a_policy_that_nobody_can_mean(options, said):
    with pytest.raises(DefinitionError) as caught:
        declare(**options)

    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"cron": "*/10 * * * * *"}, "did you mean '*/10 * * * *', next at"),
        ({"cron": "0 0 31 2 *"}, "'0 0 31 2 *' never runs"),
        ({"cron": 5}, "scheduled action 'bell.ring': cron"),
        ({"timezone": "Europe/Brno"}, "Europe/Brno"),
        ({"timezone": None}, "scheduled action 'bell.ring': timezone"),
    ],
)
def test_a_time_that_never_comes(options, part):
    with pytest.raises(WrongValueError) as caught:
        declare(**options)

    assert part in str(caught.value)


def test_a_parameter_that_no_tick_gives():
    def ring(ctx: JobContext, times: int) -> None:
        """Nothing."""

    with pytest.raises(DefinitionError) as caught:
        declare(ring)

    assert str(caught.value) == (
        "task 'bell.ring', ring(): 'times' has no default\n"
        "  why: its ticks pass no arguments\n"
        "  fix: give it one; ctx.tick says for which instant it runs"
    )


def test_a_method_is_told_to_be_static():
    def ring(self) -> None:
        """Nothing."""

    with pytest.raises(DefinitionError, match="it is a method"):
        declare(ring)


def test_an_option_that_is_none_of_its():
    with pytest.raises(DefinitionError) as caught:
        declare(zone="UTC")

    assert "unknown option 'zone'" in str(caught.value)
    assert "timezone" in str(caught.value)


def test_a_key_that_another_has():
    domain = Domain("tower", tasks=[declare(), declare()])

    with pytest.raises(DefinitionError, match="is used by task"):
        StateJobs("sqlite://", domains=[domain])
