"""Who keeps a transaction open for long is warned of, whatever form the body has."""

import pytest

from tests.support.clock import ManualClock
from tests.support.errands import Line, ask, errand, fetch, household, reset, script


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def app(database_url, clock):
    """An app with tasks that do what a test says."""
    with household(database_url, clock=clock) as opened:
        yield opened
    reset()


@pytest.mark.parametrize("kind", [errand, fetch], ids=["def", "async def"])
@pytest.mark.parametrize("is_long", [True, False])
def test_a_body_that_wrote_long_ago_is_named(app, clock, caplog, kind, is_long):
    before, after = 600, 1.5 if is_long else 0.5

    def write(ctx, *_args):
        clock.advance(seconds=before)
        ctx.session.add(Line(text="written"))
        ctx.session.flush()
        clock.advance(seconds=after)

    async def write_aside(ctx, *_args):
        clock.advance(seconds=before)
        ctx.session.add(Line(text="written"))
        await ctx.session.flush()
        clock.advance(seconds=after)

    script.errand, script.fetch = write, write_aside
    ask(app, kind, *(["a"] if kind is fetch else []))

    assert app.drain().counts == {"complete": 1}

    assert ("kept its transaction open for 1.5 s" in caplog.text) is is_long
