"""What an app has: all that its domains declare, by stable names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import Dialect, MetaData, Table

from statejobs.declare.abstract import mapped_below
from statejobs.declare.domain import Domain
from statejobs.declare.mixin import StatefulResource
from statejobs.declare.names import key_used_twice
from statejobs.declare.schedule import Schedule
from statejobs.declare.task import Task
from statejobs.errors import (
    ArgumentsError,
    ConfigurationError,
    DefinitionError,
    NotFoundError,
    did_you_mean,
)
from statejobs.record.actors import ActorCodec, Actors
from statejobs.record.candidates import check_schedule
from statejobs.record.model import ResourceModel, models_within
from statejobs.record.related import check_load
from statejobs.record.specs import BoundTrigger
from statejobs.record.timeouts import StateTimeout, timeouts_of
from statejobs.values.kinds import check_kind, check_text, members_of
from statejobs.values.redaction import DEFAULT, Redaction


class Registry:
    """Stable names → what was declared, over all domains of an app."""

    def __init__(
        self,
        domains: Iterable[Domain],
        redaction: Redaction = DEFAULT,
        codec: ActorCodec[Any] | None = None,
    ) -> None:
        """Collect resources, their mapped subclasses, their triggers, and tasks.

        Args:
            domains: What they are in.
            redaction: What the history of the resources hides.
            codec: Writes who acts, and loads them again.

        Raises:
            DefinitionError: The name of a domain or resource or a key is used twice, a resource is
                in two domains, or an annotation cannot be resolved.
        """
        self.domains: dict[str, Domain] = {}
        self.resources: dict[str, ResourceModel] = {}
        self.triggers: dict[str, tuple[ResourceModel, BoundTrigger]] = {}
        self.tasks: dict[str, Task[..., ..., Any]] = {}
        self.schedules: dict[str, Schedule] = {}
        """What runs by itself, by its key; aliases have none."""
        self._redaction = redaction
        if codec is not None:
            example = "ActorCodec(dump=…, load=…)"
            check_kind("StateJobs: actors=", codec, ActorCodec, example=example)
        self.actors = Actors(codec)
        """How who acts is written and found again."""
        listed = tuple(domains)
        for domain in listed:
            _refuse_same_name(domain, self.domains.setdefault(domain.name, domain))
        homes: dict[type[StatefulResource], Domain] = {}
        for domain in listed:
            domain.settle_in()  # classes may have come since it was made
            for resource in domain.resources:
                _refuse_second_home(
                    resource, domain, homes.setdefault(resource, domain)
                )
                self._add(resource.__statejobs__)
        for domain in listed:
            for task in domain.all_tasks:
                self._add_task(task)

    def known_keys(self) -> list[str]:
        """Return the keys and aliases of all triggers and tasks."""
        return [*self.triggers, *self.tasks]

    def keys_of(self, resource: str) -> list[str]:
        """Return the keys and aliases of the triggers of *resource* and of its subclasses."""
        own = [(b.key, *b.aliases) for b in self.resources[resource].triggers.values()]
        others = [
            key for key, (model, _) in self.triggers.items() if model.name == resource
        ]
        return list(dict.fromkeys([key for keys in own for key in keys] + others))

    def keys_in(self, domains: Sequence[Domain | str]) -> list[str]:
        """Return the keys and aliases of all triggers and tasks that a worker of *domains* has.

        Raises:
            ConfigurationError: None is given, or one is not in this app.
            WrongValueError: Not several domains, or names of them.
        """
        names = _names_of(domains)
        if not names:
            raise ConfigurationError(
                "no domain is named",
                why="such a worker would claim nothing",
                fix="leave domains out to serve all of them",
            )
        for name in names:
            if name not in self.domains:
                raise ConfigurationError(
                    f"no domain {name!r} in this app; {did_you_mean(name, self.domains)}",
                    why="it is not in the `domains` of the app",
                    fix="name one that is, or add it there",
                )
        chosen = [self.domains[name] for name in names]
        keys = [
            *(
                key
                for domain in chosen
                for resource in domain.resources
                for key in self.keys_of(resource.__statejobs__.name)
            ),
            *(
                key
                for domain in chosen
                for task in domain.all_tasks
                for key in (task.key, *task.spec.options.aliases)
            ),
        ]
        return list(dict.fromkeys(keys))

    @cached_property
    def timeouts(self) -> tuple[StateTimeout, ...]:
        """The transitions that fire by themselves."""
        return tuple(timeouts_of(self._models()))

    @property
    def tables(self) -> list[Table]:
        """The tables that hold the states of the resources, each once."""
        return list(dict.fromkeys(model.table for model in self.resources.values()))

    @property
    def metadata(self) -> list[MetaData]:
        """The metadata in which these are, each once."""
        return list(dict.fromkeys(table.metadata for table in self.tables))

    @property
    def is_async(self) -> bool:
        """Whether any action or task is an `async def`."""
        actions = [bound.action for _, bound in self.triggers.values()]
        return any(a.is_async for a in actions) or any(
            t.spec.is_async for t in self.tasks.values()
        )

    def paused_keys(self) -> list[str]:
        """Return the keys and aliases of those whose jobs wait, since they are declared so."""
        triggers = [
            k for k, (_, bound) in self.triggers.items() if bound.options.paused
        ]
        tasks = [k for k, task in self.tasks.items() if task.spec.options.paused]
        return [*triggers, *tasks]

    def named_queues(self) -> list[str]:
        """Return the queues that triggers and tasks name, each once."""
        triggers = [bound.options.queue for _, bound in self.triggers.values()]
        return list(
            dict.fromkeys(
                [*triggers, *(t.spec.options.queue for t in self.tasks.values())]
            )
        )

    def resource(self, name: str) -> ResourceModel:
        """Return a resource by its name, whatever the case.

        Raises:
            NotFoundError: With the closest name.
        """
        for known, model in self.resources.items():
            if known.lower() == name.lower():
                return model
        raise NotFoundError(
            f"no resource {name!r}",
            fix=did_you_mean(name, self.resources),
        )

    def unserved(self, queues: Collection[str]) -> Iterator[str]:
        """Say of each trigger and task whose queue is not among *queues* that its jobs wait."""
        declared = [
            *(("trigger", b.key, b.options.queue) for _, b in self.triggers.values()),
            *(
                ("task", task.key, task.spec.options.queue)
                for task in self.tasks.values()
            ),
        ]
        for kind, key, queue in dict.fromkeys(declared):
            if queue not in queues:
                yield (
                    f"{kind} {key!r} puts its jobs into queue {queue!r}, which is not in the "
                    f"queues of this app, so they wait; {did_you_mean(queue, queues)}"
                )

    def check_schedules(self, dialect: Dialect) -> None:
        """Compile what each schedule picks, for a database.

        Raises:
            DefinitionError: It cannot be asked for.
        """
        for model in self._models():
            for bound in model.triggers.values():
                if bound.schedule is not None:
                    check_schedule(model, bound, dialect)

    def _models(self) -> Iterator[ResourceModel]:
        for model in self.resources.values():
            yield from models_within(model)

    def _add(self, model: ResourceModel) -> None:
        other = self.resources.get(model.name)
        if other is not None and other.cls is not model.cls:
            if not issubclass(model.cls, other.cls):
                raise DefinitionError(
                    _full_name(model),
                    f"the resource name {model.name!r} is used by {_full_name(other)} already",
                    why="history and jobs name their resource by it",
                    fix=f"set __resource__ = {_full_name(model)!r} on one of them",
                )
        elif other is None:
            self.resources[model.name] = model
        model.redactions.add(self._redaction)
        model.actors.codec = self.actors.codec or model.actors.codec
        for bound in model.triggers.values():
            self._add_trigger(model, bound)
        for subclass in mapped_below(model.cls):
            self._add(subclass.__statejobs__)  # type: ignore[attr-defined]

    def _add_trigger(self, model: ResourceModel, bound: BoundTrigger) -> None:
        for key in (bound.key, *bound.aliases):
            taken = self.triggers.get(key)
            if taken is not None and taken[1].spec is not bound.spec:
                raise key_used_twice(key, _where(*taken), _where(model, bound))
            if taken is not None and not issubclass(model.cls, taken[0].cls):
                raise key_used_twice(key, _where(*taken), _where(model, bound))
            self.triggers.setdefault(key, (model, bound))
        if bound.schedule is not None:
            timetable = bound.schedule.timetable
            schedule = Schedule(
                key=bound.key, timetable=timetable, trigger=(model, bound)
            )
            self.schedules.setdefault(bound.key, schedule)
        _check_arguments(model, bound)
        check_load(_where(model, bound), model, bound)

    def _add_task(self, task: Task[..., ..., Any]) -> None:
        for key in (task.key, *task.spec.options.aliases):
            if key in self.triggers:
                raise key_used_twice(
                    key, _where(*self.triggers[key]), _where_task(task)
                )
            other = self.tasks.setdefault(key, task)
            if other is not task:
                raise key_used_twice(key, _where_task(other), _where_task(task))
        task.spec.actors.codec = self.actors.codec or task.spec.actors.codec
        _ = task.spec.signature  # resolves its annotations
        if task.spec.timetable is not None:
            self.schedules[task.key] = Schedule(
                key=task.key, timetable=task.spec.timetable, task=task
            )


def _names_of(domains: Sequence[Domain | str]) -> list[str]:
    where = "worker(domains=…)"
    members = members_of(where, domains, example='domains=["shop"]')
    names = [one.name if isinstance(one, Domain) else one for one in members]
    for name in names:
        check_text(f"{where}: each of them", name, example="shop")
    return names


def _check_arguments(model: ResourceModel, bound: BoundTrigger) -> None:
    """Refuse arguments of `run_trigger` that no job could carry; callables are asked later."""
    signature = bound.action.signature  # resolves its annotations
    given = bound.options.args
    asks = _who_asks(model, bound)
    if callable(given) or asks is None:
        return
    try:
        signature.encode_call((), dict(given or {}))
    except ArgumentsError as error:
        raise DefinitionError(
            _where(model, bound),
            f"its args= do not fit the action: argument {error.parameter!r} {error.problem}",
            why=asks,
            fix=f"give args= what {bound.action.name!r} takes, or give the parameter a default",
        ) from error


def _who_asks(model: ResourceModel, bound: BoundTrigger) -> str | None:
    """Say who passes the `args=` of a trigger; None where nobody does."""
    if bound.key in {promise.key for promise in model.spec.promises}:
        return "run_trigger passes these arguments, so every such transition would fail"
    if bound.schedule is not None:
        return "each tick passes these arguments, so every job of it would fail"
    return None


def _full_name(model: ResourceModel) -> str:
    return f"{model.cls.__module__}.{model.cls.__name__}"


def _where(model: ResourceModel, bound: BoundTrigger) -> str:
    return f"{model.cls.__name__}.{bound.name}"


def _where_task(task: Task[..., ..., Any]) -> str:
    return f"task {task.spec.body.__module__}.{task.spec.name}"


def _refuse_same_name(domain: Domain, other: Domain) -> None:
    if domain is other:
        return
    raise DefinitionError(
        f"Domain({domain.name!r})",
        "another domain of the app has its name",
        why="a worker is told by name which domains it serves",
        fix="give each a name of its own, or list all of it in one",
    )


def _refuse_second_home(
    resource: type[StatefulResource], domain: Domain, home: Domain
) -> None:
    if domain is home:
        return
    raise DefinitionError(
        resource.__name__,
        f"is in two domains, {home.name!r} and {domain.name!r}",
        why="a resource belongs to the one domain under which people look for it",
        fix=f"leave it out of Domain({domain.name!r}, …)",
    )
