"""Who keeps a transaction open for long is warned of, whatever form the body has."""

import pytest

from statejobs.work import outcomes
from tests.support.clock import ManualClock
from tests.support.errands import Line, ask, errand, fetch, household, reset, script


@pytest.fixture
def app(database_url):
    """An app with tasks that do what a test says."""
    with household(database_url, clock=ManualClock()) as opened:
        yield opened
    reset()


@pytest.mark.parametrize("kind", [errand, fetch], ids=["def", "async def"])
@pytest.mark.parametrize("is_long", [True, False])
def test_a_body_that_wrote_long_ago_is_named(app, caplog, monkeypatch, kind, is_long):
    monkeypatch.setattr(outcomes, "LONG_TRANSACTION", 0.0 if is_long else 600.0)

    def write(ctx, *_args):
        ctx.session.add(Line(text="written"))
        ctx.session.flush()

    async def write_aside(ctx, *_args):
        ctx.session.add(Line(text="written"))
        await ctx.session.flush()

    script.errand, script.fetch = write, write_aside
    ask(app, kind, *(["a"] if kind is fetch else []))

    assert app.drain().counts == {"complete": 1}

    assert ("kept its transaction open" in caplog.text) is is_long
