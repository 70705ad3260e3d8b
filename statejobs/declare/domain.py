"""`Domain`: a named set of resources and tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from reprlib import repr as short
from typing import Any

from statejobs.declare.abstract import is_abstract, mapped_below
from statejobs.declare.defaults import Defaults
from statejobs.declare.mixin import StatefulResource
from statejobs.declare.schedule import scheduled_on
from statejobs.declare.task import Task
from statejobs.errors import (
    DefinitionError,
)
from statejobs.values.kinds import check_kind, check_text, members_of
from statejobs.values.known_options import explain_options
from statejobs.values.option_checks import NAME
from statejobs.values.queues import check_limits


class Domain:
    """What belongs together, for instance `Domain("shop", resources=[Order], tasks=[report])`."""

    @explain_options()
    def __init__(
        self,
        name: str,
        *,
        resources: Sequence[type[StatefulResource]] = (),
        tasks: Sequence[Task[..., ..., Any]] = (),
        queues: Mapping[str, int] | None = None,
        defaults: Defaults | None = None,
    ) -> None:
        """Name the set.

        Args:
            name: Shown to people, and typed on the command line.
            resources: Its classes; their subclasses come with them.
            tasks: Its functions.
            queues: Queue → how many of its jobs one worker process runs at once, beside those of
                the app.
            defaults: Options of its triggers and tasks, where they give none themselves.

        Raises:
            DefinitionError: Not a name, something that is neither a resource nor a task, or one
                that has other defaults by another domain.
            ConfigurationError: A queue that cannot be used.
        """
        check_text("Domain: its name", name, example="shop")
        resources = members_of(
            f"Domain({name!r}): resources=", resources, example="resources=[Order]"
        )
        tasks = members_of(f"Domain({name!r}): tasks=", tasks, example="tasks=[report]")
        if not NAME.fullmatch(name):
            raise DefinitionError(
                f"Domain({name!r})",
                f"{name!r} is not a name",
                why="it is shown to people and typed on the command line",
                fix="use letters, digits, '.', '_' and '-'",
            )
        for resource in resources:
            _refuse_other(name, resource)
        for task in tasks:
            _refuse_other_task(name, task)
        self.name = name
        self.resources = tuple(resources)
        self.tasks = tuple(tasks)
        self.queues = check_limits(
            f"Domain({name!r}): queues=", {} if queues is None else queues
        )
        self.defaults = defaults or Defaults()
        check_kind(
            f"Domain({name!r}): defaults=",
            self.defaults,
            Defaults,
            example='Defaults(queue="payments")',
        )
        self.settle_in()

    @property
    def all_tasks(self) -> Sequence[Task[..., ..., Any]]:
        """Its tasks, and the scheduled actions of its resources."""
        found = (task for one in self.resources for task in scheduled_on(one))
        return tuple(dict.fromkeys((*self.tasks, *found)))

    def settle_in(self) -> None:
        """Let what belongs to it have its defaults, before anything is enqueued."""
        given = self.defaults.given()
        for resource in self.resources:
            resource.__statejobs__.home.take(resource.__name__, self.name, given)
        for task in self.all_tasks:
            task.spec.home.take(f"task {task.key!r}", self.name, given)


def _refuse_other(name: str, resource: Any) -> None:
    is_class = isinstance(resource, type)
    if is_class and not is_abstract(resource) and "__statejobs__" in dir(resource):
        return
    if is_class and is_abstract(resource) and issubclass(resource, StatefulResource):
        below = ", ".join(
            dict.fromkeys(mapped.__name__ for mapped in mapped_below(resource))
        )
        raise DefinitionError(
            f"Domain({name!r})",
            f"{resource.__name__} is abstract",
            why="it has no table, and so no records",
            fix=f"list what is made of it: {below or 'its subclasses'}",
        )
    raise DefinitionError(
        f"Domain({name!r})",
        f"{short(resource)} is not a resource",
        why="a domain lists classes that declare a machine",
        fix="give subclasses of StatefulResource with a state_column",
    )


def _refuse_other_task(name: str, task: Any) -> None:
    if isinstance(task, Task):
        return
    raise DefinitionError(
        f"Domain({name!r})",
        f"{short(task)} is not a task",
        why="its tasks are functions under @task, which gives them a key",
        fix=f'say @task("…") above `def {getattr(task, "__name__", "report")}`, and list that',
    )
