"""Databases that cannot serve are refused before anything is opened."""

import pytest
from sqlalchemy import NullPool, create_engine, event

from statejobs import ConfigurationError, StateJobs
from statejobs.store.engines.asyncio import open_async_engine
from statejobs.store.engines.factory import open_engine
from statejobs.store.engines.sqlite import configure_sqlite


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
    assert str(error).splitlines() == [
        error.what,
        f"  why: {error.why}",
        f"  fix: {error.fix}",
    ]


def options_of(engine):
    """What the driver is given for one connection."""
    given = {}

    def refuse(_dialect, _record, _args, options):
        given.update(options)
        raise LookupError

    event.listen(engine, "do_connect", refuse)
    with pytest.raises(LookupError):
        engine.connect()
    return given


def test_postgres_is_told_to_notice_a_peer_that_is_gone(monkeypatch):
    monkeypatch.delenv("PGCONNECT_TIMEOUT", raising=False)

    options = options_of(open_engine("postgresql://u@h/d"))

    assert options["connect_timeout"] == 5
    assert options["keepalives_idle"] + 2 * 3 <= 15
    assert options["tcp_user_timeout"] <= 15_000


def test_what_the_url_or_the_environment_says_of_time_limits_stands(monkeypatch):
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "60")

    options = options_of(
        open_engine("postgresql://u@h/d?keepalives_idle=90&tcp_user_timeout=0")
    )

    assert (options["keepalives_idle"], options["tcp_user_timeout"]) == ("90", "0")
    assert options["keepalives_count"] == 3
    assert "connect_timeout" not in options


def test_the_engine_of_async_actions_is_told_the_same():
    opened = open_async_engine(open_engine("postgresql://u@h/d?connect_timeout=9"))

    options = options_of(opened.sync_engine)

    assert (options["connect_timeout"], options["keepalives"]) == ("9", 1)
