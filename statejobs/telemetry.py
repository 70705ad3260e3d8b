"""Tells those who subscribe what happens: see `statejobs.events`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast, overload

from statejobs.events import Happening
from statejobs.values.kinds import check_callable, check_class

E = TypeVar("E", bound=Happening)
F = TypeVar("F", bound=Happening)
P = ParamSpec("P")

log = logging.getLogger("statejobs")
_EXAMPLE = "subscribe(print, JobEnded)"


class _Subscription(NamedTuple):
    subscriber: Callable[[Any], None]
    events: tuple[type[Happening], ...]


class Telemetry:
    """Tells subscribers what happens; one that fails is logged and kept."""

    def __init__(self) -> None:
        self._subscriptions: list[_Subscription] = []
        self._subscribers: dict[object, tuple[Callable[[Any], None], ...]] = {}
        """Those of each class that was emitted since somebody subscribed."""

    @overload
    def subscribe(
        self, subscriber: Callable[[E], None], event: type[E], /
    ) -> Callable[[], None]: ...
    @overload
    def subscribe(
        self, subscriber: Callable[[E | F], None], event: type[E], other: type[F], /
    ) -> Callable[[], None]: ...
    @overload
    def subscribe(
        self, subscriber: Callable[[Happening], None], /, *events: type[Happening]
    ) -> Callable[[], None]: ...
    def subscribe(
        self, subscriber: Callable[[Any], None], /, *events: type[Happening]
    ) -> Callable[[], None]:
        """Call *subscriber* for each of *events* from now on, by default for all.

        Returns:
            A function that ends this.

        Raises:
            WrongValueError: The subscriber cannot be called, or an event is no class of them.
        """
        subscription = _subscription_of(subscriber, events)
        self._add(subscription)
        return lambda: self._remove(subscription)

    def subscribe_once(
        self, subscriber: Callable[[Happening], None], /, *events: type[Happening]
    ) -> None:
        """Subscribe, unless the same subscriber did so for the same events."""
        subscription = _subscription_of(subscriber, events)
        if subscription not in self._subscriptions:
            self._add(subscription)

    def emit(
        self, event: Callable[P, Happening], *args: P.args, **fields: P.kwargs
    ) -> None:
        """Tell who asked for *event*, in the thread where it happens.

        Of its class an object is made from the *fields*, if anybody listens.
        """
        try:
            subscribers = self._subscribers[event]
        except KeyError:
            subscribers = self._find(cast("type[Happening]", event))
        if not subscribers:
            return
        happening = event(*args, **fields)
        for subscriber in subscribers:
            try:
                subscriber(happening)
            except Exception:  # a subscriber must not disturb a job
                log.exception("a subscriber of %s failed", happening.event)

    def _find(self, event: type[Happening]) -> tuple[Callable[[Any], None], ...]:
        # taken first: who subscribes meanwhile puts a new one
        found = self._subscribers
        found[event] = tuple(
            subscription.subscriber
            for subscription in tuple(self._subscriptions)
            if issubclass(event, subscription.events)
        )
        return found[event]

    def _add(self, subscription: _Subscription) -> None:
        self._subscriptions.append(subscription)
        self._subscribers = {}

    def _remove(self, subscription: _Subscription) -> None:
        self._subscriptions.remove(subscription)
        self._subscribers = {}


def _subscription_of(
    subscriber: Callable[[Any], None], events: tuple[type[Happening], ...]
) -> _Subscription:
    check_callable("subscribe()", subscriber, example="subscribe(print)")
    for event in events:
        check_class("subscribe(): each event", event, Happening, example=_EXAMPLE)
    return _Subscription(subscriber, events or (Happening,))
