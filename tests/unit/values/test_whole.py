"""Where a whole number is meant, True, 2.5, nan and text are refused in words."""

from math import inf, nan

import pytest

from statejobs import (
    ArgumentsError,
    ConfigurationError,
    DefinitionError,
    StateJobs,
    task,
)

ODD = [True, False, 2.5, nan, inf, "3", None]


@pytest.mark.parametrize("value", ODD[:-1], ids=repr)
@pytest.mark.parametrize("option", ["priority", "max_attempts"])
def test_no_option_of_a_task_takes_what_is_no_whole_number(option, value):
    with pytest.raises(DefinitionError) as refused:

        @task("odd.number", **{option: value})
        def odd() -> None: ...

    assert f"{option}={value!r}" in str(refused.value)


@pytest.mark.parametrize("value", [True, 2.5, nan, "3"], ids=repr)
def test_no_job_has_a_priority_that_is_no_whole_number(value):
    @task("odd.priority")
    def odd() -> None: ...

    with pytest.raises(TypeError, match="must be a whole number"):
        odd.options(priority=value)


@pytest.mark.parametrize("limit", ODD, ids=repr)
def test_no_queue_has_a_limit_that_is_no_whole_number(sqlite_url, limit):
    with pytest.raises(ConfigurationError, match="must be a whole number from 1 on"):
        StateJobs(sqlite_url, domains=[], queues={"default": limit})


@pytest.mark.parametrize("value", [inf, -inf, nan], ids=repr)
def test_a_number_that_json_lacks_is_refused_by_its_own_name(value):
    @task("odd.float")
    def odd(amounts: list[float]) -> None: ...

    with pytest.raises(ArgumentsError) as refused:
        odd.spec.signature.encode({"amounts": [1.0, value]})

    assert f"amounts[1] is {value!r}, and JSON has no such number" in str(refused.value)
