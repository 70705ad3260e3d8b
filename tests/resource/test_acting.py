"""Who acts, in programs whose requests run in several contexts."""

import asyncio
import contextvars
import logging
from contextlib import contextmanager

import pytest

from statejobs import ActingMiddleware, acting_as, tenant
from statejobs.acting import current_actor, current_tenant


@contextmanager
def user():
    """What a dependency with `yield` does."""
    with acting_as("user:7"), tenant("acme"):
        yield


async def in_a_thread(function, *args):
    """Call *function* as a server calls a `def`: in a thread, with a copy of the context."""
    return await asyncio.to_thread(function, *args)


def names():
    return current_actor(), current_tenant()


def answer(app, scope=None, **options):
    """Let the middleware answer one request with *app*."""
    seen = []

    async def call(_scope, _receive, _send):
        seen.append(await app())

    middleware = ActingMiddleware(call, **options)
    asyncio.run(middleware(scope or {"type": "http"}, None, None))
    return seen[0]


async def endpoint_beside_a_dependency():
    dependency = user()
    await in_a_thread(dependency.__enter__)
    seen = await in_a_thread(names), names()
    await in_a_thread(dependency.__exit__, None, None, None)
    return (*seen, names())


def test_what_a_dependency_in_a_thread_names_holds_for_the_endpoint():
    found = answer(endpoint_beside_a_dependency)

    assert found == (("user:7", "acme"), ("user:7", "acme"), (None, None))


def test_without_the_middleware_it_ends_without_an_error_and_says_so(caplog):
    found = asyncio.run(endpoint_beside_a_dependency())

    assert found == ((None, None),) * 3
    assert (
        "'user:7' was named as actor in one context and left in another" in caplog.text
    )
    assert "ActingMiddleware" in caplog.text


def test_requests_at_the_same_time_have_actors_of_their_own():
    async def request(name, both):
        async def call():
            dependency = acting_as(name)
            await in_a_thread(dependency.__enter__)
            await both.wait()
            seen = await in_a_thread(current_actor)
            await in_a_thread(dependency.__exit__, None, None, None)
            return seen

        seen = []

        async def app(_scope, _receive, _send):
            seen.append(await call())

        await ActingMiddleware(app)({"type": "http"}, None, None)
        return seen[0]

    async def both_requests():
        both = asyncio.Barrier(2)
        return await asyncio.gather(request("a", both), request("b", both))

    assert asyncio.run(both_requests()) == ["a", "b"]


def test_an_endpoint_names_somebody_else_for_a_while():
    async def call():
        dependency = user()
        await in_a_thread(dependency.__enter__)
        with acting_as("user:8"):
            inside = await in_a_thread(names)
        await in_a_thread(act_as_ninth)
        seen = inside, await in_a_thread(names)
        await in_a_thread(dependency.__exit__, None, None, None)
        return seen

    def act_as_ninth():
        with acting_as("user:9"):
            assert names() == ("user:9", "acme")

    assert answer(call) == (("user:8", "acme"), ("user:7", "acme"))


def test_the_middleware_takes_the_names_from_the_scope():
    async def call():
        return names(), await in_a_thread(names)

    found = answer(
        call,
        {"type": "websocket", "user": "7", "host": "acme"},
        actor=lambda scope: f"user:{scope['user']}",
        tenant=lambda scope: scope["host"],
    )

    assert found == (("user:7", "acme"), ("user:7", "acme"))


def test_a_name_that_is_none_names_nobody():
    async def call():
        return names()

    assert answer(call, actor=lambda _scope: None) == (None, None)


def test_the_lifespan_acts_for_nobody():
    async def call():
        return names()

    assert answer(call, {"type": "lifespan"}, actor=lambda scope: scope["user"]) == (
        None,
        None,
    )


@pytest.mark.parametrize("naming", [acting_as, tenant])
def test_leaving_in_another_context_raises_nothing(naming, caplog):
    caplog.set_level(logging.WARNING)
    entered = naming("user:7")

    contextvars.copy_context().run(entered.__enter__)
    entered.__exit__(None, None, None)

    assert names() == (None, None)


def test_leaving_in_another_context_hides_no_error():
    entered = acting_as("user:7")
    contextvars.copy_context().run(entered.__enter__)

    assert not entered.__exit__(ValueError, ValueError("mine"), None)
