"""Databases that cannot serve are refused before anything is opened."""

import pytest
from sqlalchemy import NullPool, create_engine

from statejobs import ConfigurationError, StateJobs
from statejobs.store.sqlite import configure_sqlite


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file::memory:?uri=true",
        "sqlite:///file:shared?mode=memory&cache=shared&uri=true",
    ],
)
def test_sqlite_in_memory_is_refused_with_what_to_use_instead(url):
    with pytest.raises(ConfigurationError, match="cannot be shared") as refused:
        StateJobs(url, domains=[])
    with pytest.raises(ConfigurationError, match="cannot be shared"):
        configure_sqlite(create_engine(url, poolclass=NullPool))

    assert "sqlite:///app.db" in refused.value.fix


def test_a_refusal_keeps_its_parts():
    with pytest.raises(ConfigurationError) as refused:
        StateJobs("junk", domains=[])

    error = refused.value
    assert str(error).splitlines() == [error.what, f"  why: {error.why}", f"  fix: {error.fix}"]
