from functools import partial

import pytest

from statejobs.errors import DefinitionError
from statejobs.machine.guard import Guard


def has_amount(record):
    """Nothing to charge.

    More, which people do not read.
    """
    return record > 0


def is_open(record):
    return record > 0


def test_reason_is_the_first_line_of_the_docstring():
    assert Guard.of(has_amount).reason == "Nothing to charge."


def test_reason_names_the_guard_when_there_is_no_docstring():
    assert Guard.of(is_open).reason == "guard 'is_open' says no."


def test_reason_of_a_partial_is_that_of_its_function():
    guard = Guard.of(partial(has_amount))

    assert (guard.name, guard.reason) == ("has_amount", "Nothing to charge.")


def test_reason_of_a_callable_value_names_its_class_not_its_docstring():
    class Limit:
        """Developers read this."""

        def __call__(self, record):
            return record < 10

    assert Guard.of(Limit()).reason == "guard 'Limit' says no."


def test_an_async_guard_is_refused():
    async def has_stock(_):
        return False

    with pytest.raises(DefinitionError) as refused:
        Guard.of(has_stock)

    assert str(refused.value) == (
        "guard 'has_stock': it is async\n"
        "  why: a transition asks its guards at once, and a coroutine counts as yes\n"
        "  fix: make it a plain function that reads only the record"
    )


def test_an_async_callable_value_is_refused():
    class HasStock:
        async def __call__(self, _):
            return False

    with pytest.raises(DefinitionError, match="it is async"):
        Guard.of(HasStock())
