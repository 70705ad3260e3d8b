"""The action of a trigger: a method that a job runs, that tests call, and that people enqueue."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Concatenate, Generic, ParamSpec, TypeVar, overload

from statejobs.declare.action_on_class import ActionOnClass
from statejobs.record.specs import ActionSpec
from statejobs.record.walk import BoundAction

R = TypeVar("R")
C = TypeVar("C")
P = ParamSpec("P")
T = TypeVar("T")


class Action(Generic[R, C, P, T]):
    """A declared action; on a record it is a method, on the class it can be enqueued."""

    def __init__(
        self, body: Callable[Concatenate[R, C, P], T], spec: ActionSpec
    ) -> None:
        self.spec = spec
        update_wrapper(self, body)  # type: ignore[arg-type]

    @overload
    def __get__(self, record: None, owner: type) -> ActionOnClass[R, P]: ...
    @overload
    def __get__(self, record: R, owner: type) -> BoundAction[C, P, T]: ...
    def __get__(
        self, record: R | None, owner: type
    ) -> ActionOnClass[R, P] | BoundAction[C, P, T]:
        """Return what can be enqueued on the class, the callable on a record."""
        return (
            ActionOnClass(self.spec)
            if record is None
            else BoundAction(self.spec, record)
        )

    def __repr__(self) -> str:
        return repr(self.spec)
