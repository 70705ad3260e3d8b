"""The article before a name of somebody else's."""

import pytest

from statejobs.values.article import indefinite


@pytest.mark.parametrize(
    "name", ["int", "Order", "AsyncSession", "Upload", "Unknown", "object"]
)
def test_a_name_that_begins_with_a_vowel(name):
    assert indefinite(name) == f"an {name}"


@pytest.mark.parametrize(
    "name", ["str", "JobContext", "User", "Unique", "UUID", "OneTime", "_Hidden", ""]
)
def test_a_name_that_does_not(name):
    assert indefinite(name) == f"a {name}"
