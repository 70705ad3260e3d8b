"""Who acts, and for which tenant: stored with the history and the jobs that are made meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import (
    AbstractContextManager,
    ExitStack,
    contextmanager,
    nullcontext,
    suppress,
)
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from statejobs.values.text import NAME_LIMIT, clean_text

log = logging.getLogger("statejobs.acting")

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
NameOf: TypeAlias = Callable[[Scope], str | None]
"""Returns the name that holds for a request, or None."""
ActorOf: TypeAlias = Callable[[Scope], object]
"""Returns who acts in a request, or None."""


@dataclass(frozen=True, slots=True)
class _System:
    """What acts while a job or a command runs, and for whom that does."""

    name: str | None
    """In whose name; or that of the tenant."""


_Names: TypeAlias = dict[str, Any]

_actor: ContextVar[Any] = ContextVar("statejobs_actor", default=None)
_tenant: ContextVar[Any] = ContextVar("statejobs_tenant", default=None)
_request: ContextVar[_Names | None] = ContextVar("statejobs_request", default=None)
"""What threads of a request named: each runs in a copy of its context, which nobody reads."""

_AS_IT_IS = nullcontext()
"""What a job enters where nobody else acts, as in a worker: three variables set cost 1.5 µs."""
_NOBODYS = _System(None)


@contextmanager
def acting_as(actor: object) -> Iterator[None]:
    """Name who acts, for instance `"user:7"`; stored with history and jobs made inside.

    Args:
        actor: A text, or whatever the `actors=` of the app can write.
    """
    with _naming(_actor, actor):
        yield


@contextmanager
def tenant(name: str) -> Iterator[None]:
    """Name the tenant for whom everything inside is done; stored with history and jobs."""
    with _naming(_tenant, name):
        yield


def acting_for_job(
    actor: str | None, tenant: str | None
) -> AbstractContextManager[None]:
    """Act as a job does: for those who are stored with it, whoever acts where it is run."""
    is_as_it_is = _actor.get() is _NOBODYS and actor is None is _request.get()
    if is_as_it_is and tenant is None is _tenant.get():
        return _AS_IT_IS
    return _acting_for_job(actor, tenant)


def act_as_system() -> None:
    """Act from now on as a job does that nobody asked for: in a thread or a task of ours."""
    _actor.set(_NOBODYS)


def acting_by_hand(name: str) -> AbstractContextManager[None]:
    """Act as who types a command: no permission is asked, since they can write the database."""
    return _acting_for_job(name, current_tenant())


def is_system() -> bool:
    """Return whether a job or a command acts here, and no person whom a job names itself."""
    return isinstance(_actor.get(), _System)


@contextmanager
def _acting_for_job(actor: str | None, tenant: str | None) -> Iterator[None]:
    request, whose = _request.set(None), _tenant.set(_System(tenant))
    who = _actor.set(_System(actor))
    try:
        yield
    finally:
        with suppress(ValueError):
            # a coroutine that is thrown away ends in another context
            _tenant.reset(whose)
            _actor.reset(who)
            _request.reset(request)


class Acting(NamedTuple):
    """Who acts, and for which tenant."""

    actor: Any
    """As `acting_as` was given it: a text, or what an app can write."""
    tenant: str | None
    is_named: bool = True
    """Whether somebody named the tenant, and not the job whose action this is."""


def current_acting() -> Acting:
    """Return both as they are now."""
    who, whose = _named(_actor), _named(_tenant)
    return Acting(
        who.name if isinstance(who, _System) else who,
        whose.name if isinstance(whose, _System) else whose,
        not isinstance(whose, _System),
    )


def current_actor() -> Any:
    """Return who acts now, if anyone was named, as `acting_as` was given it."""
    who = _named(_actor)
    return who.name if isinstance(who, _System) else who


def current_tenant() -> str | None:
    """Return the present tenant, if one was named."""
    whose = _named(_tenant)
    name: str | None = whose.name if isinstance(whose, _System) else whose
    return name


class ActingMiddleware:
    """ASGI middleware: lets a request act as one person, for one tenant.

    What a dependency in a thread names with `acting_as` and `tenant` then holds for the endpoint
    as well, which runs in another one: `def` dependencies of FastAPI and Starlette.

        app.add_middleware(ActingMiddleware, actor=lambda scope: f"user:{scope['user'].id}")
    """

    def __init__(
        self,
        app: AsgiApp,
        *,
        actor: ActorOf | None = None,
        tenant: NameOf | None = None,
    ) -> None:
        """Wrap *app*.

        Args:
            app: What answers the requests.
            actor: Returns who acts, from the scope of a request; None names nobody.
            tenant: Returns for whom.
        """
        self._app, self._actor, self._tenant = app, actor, tenant

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; what was named ends with it."""
        if scope["type"] == "lifespan":  # workers that it starts act for nobody
            await self._app(scope, receive, send)
            return
        token = _request.set({})
        try:
            with ExitStack() as stack:
                actor = None if self._actor is None else self._actor(scope)
                name = None if self._tenant is None else self._tenant(scope)
                if actor is not None:
                    stack.enter_context(acting_as(actor))
                if name is not None:
                    stack.enter_context(tenant(name))
                await self._app(scope, receive, send)
        finally:
            _request.reset(token)


@contextmanager
def _naming(variable: ContextVar[Any], name: object) -> Iterator[None]:
    if isinstance(name, str):
        name = clean_text(name, NAME_LIMIT)
    token = variable.set(name)
    shared = None if _is_in_loop() else _request.get()
    before = None if shared is None else shared.get(variable.name)
    if shared is not None:
        shared[variable.name] = name
    try:
        yield
    finally:
        if shared is not None:
            shared[variable.name] = before
        try:
            variable.reset(token)
        except ValueError:  # it was entered elsewhere; there it ends with its context
            if shared is None:
                said = name if isinstance(name, str) else type(name)
                log.warning(_UNHEARD, said, variable.name.removeprefix("statejobs_"))


def _named(variable: ContextVar[Any]) -> Any:
    name = variable.get()
    if name is not None:
        return name
    shared = _request.get()
    return None if shared is None else shared.get(variable.name)


def _is_in_loop() -> bool:
    """Return whether this is code of an event loop, whose context is that of its task."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


_UNHEARD = (
    "%r was named as %s in one context and left in another, so what came between may have been "
    "done in nobody's name. In a `def` dependency of FastAPI, which runs in a thread of its own, "
    "add statejobs.ActingMiddleware to the app, or make the dependency an `async def`"
)
