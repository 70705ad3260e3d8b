"""`Trigger` and its action: work that a record's state change starts in the background."""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    Self,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from sqlalchemy.orm import Session

from statejobs.declare.action_decorator import ActionDecorator
from statejobs.declare.action_end import NextTrigger, end_of
from statejobs.declare.every_source import refuse_every
from statejobs.declare.hook import hook_of, method_of, refuse_lost_hook
from statejobs.declare.hook_checks import check_method_hook
from statejobs.declare.names import as_tuple, refuse_second_definition
from statejobs.declare.run_trigger import Later, Promising
from statejobs.declare.schedule_words import ScheduleWords
from statejobs.errors import DefinitionError, WrongValueError
from statejobs.record.change import Change
from statejobs.record.schedule_spec import ScheduleSpec
from statejobs.record.specs import GuardFunction, PromiseSpec, TriggerSpec
from statejobs.values.backoff import Backoff
from statejobs.values.job import Job
from statejobs.values.kinds import check_kind
from statejobs.values.known_options import explain_options
from statejobs.values.levels import LogLevel
from statejobs.values.loading import LoaderOption
from statejobs.values.option import chosen, given
from statejobs.values.options import TriggerOptions
from statejobs.values.outcome import HookKind
from statejobs.values.scheduled_trigger_options import ScheduledTriggerOptions
from statejobs.values.unique import Unique
from statejobs.values.wait import positive_wait

if TYPE_CHECKING:
    from statejobs.declare.action_decorator import WayDecorator

DiscardHook = Callable[[Any, Session, str], None]
"""Takes the record, the session and the reason."""
H = TypeVar("H", bound=DiscardHook)


class Trigger(Promising):
    """Declares that an action runs as a job.

    Make one with `Trigger.on_demand`, `Trigger.scheduled` or `Trigger.hybrid`.
    """

    def __init__(self, spec: TriggerSpec) -> None:
        example = 'Trigger.on_demand("order.charge")'
        check_kind("Trigger()", spec, TriggerSpec, example=example)
        self.spec = spec

    @property
    def promise(self) -> PromiseSpec:
        """The job that it promises, at once."""
        return PromiseSpec(self.spec)

    @classmethod
    @explain_options()
    def on_demand(
        cls,
        key: str,
        *,
        aliases: Sequence[str] = (),
        queue: str | None = None,
        priority: int | None = None,
        max_attempts: int | None = None,
        max_crashes: int = 3,
        max_snoozes: int = 1000,
        backoff: Backoff
        | timedelta
        | Sequence[timedelta]
        | Callable[[int, BaseException | None], timedelta]
        | None = None,
        timeout: timedelta | Callable[[Job], timedelta | None] | None = None,
        paused: bool = False,
        tags: Sequence[str] | None = None,
        default_actor: str | None = None,
        log_level: LogLevel | int = "warning",
        log_final_level: LogLevel | int = "error",
        meta: Mapping[str, Any] | Callable[[Any], Mapping[str, Any]] | None = None,
        upcast: Callable[[dict[str, Any]], Mapping[str, Any]] | None = None,
        unique: Unique | None = None,
        args: Mapping[str, Any] | Callable[[Any], Mapping[str, Any]] | None = None,
        load: LoaderOption
        | Sequence[LoaderOption]
        | Callable[[Any], LoaderOption | Sequence[LoaderOption]]
        | None = None,
        chunk: int | None = None,
    ) -> Self:
        """Declare a trigger whose jobs are enqueued by `run_trigger` or `enqueue` only.

        Args:
            key: Stable name stored with its jobs, for instance `"order.charge"`; it survives
                renames of code. In a mixin, `"{resource}.charge"` gives each resource its own.
            aliases: Former keys, whose stored jobs still run; asking again goes on with such a job.
            queue: Queue of its jobs. Default: its domain's, or `"default"`.
            priority: 0 (first) to 9 (last) inside the queue. Default: its domain's, or `0`.
            max_attempts: Attempts before a job is discarded. Default: its domain's, or `5`.
            max_crashes: Attempts that may end with their worker before it is discarded.
            max_snoozes: How often a job may ask to run later, by `Snooze`, before it is discarded.
            backoff: Wait before the next attempt: a `timedelta`, a list of them, a function
                `(attempt, error) -> timedelta`, or a `Backoff`. Default: its domain's, or
                `Exponential()`.
            timeout: How long one attempt may take: a `timedelta`, or a function of the `Job`.
                Default: its domain's, or `None`.
            paused: Whether its jobs are enqueued and wait, until code without it is deployed.
            tags: Words stored with its jobs, for people to filter by. Default: its domain's, or
                `()`.
            default_actor: Actor of jobs that nobody asked for, for instance `"system:billing"`.
            log_level: Level at which a failed attempt is logged, `"debug"` to `"critical"`.
            log_final_level: Level at which the attempt is logged with which a job is discarded.
            meta: What programs note on its jobs, as JSON: a mapping of at most 8 kB, or a function
                of the record.
            upcast: Called with the stored arguments of an old job that no longer fit, as JSON
                values; returns those of today.
            unique: At most one job for each record and period: a `Unique`.
            args: Arguments that `run_trigger` passes to the action: a mapping, or a function of the
                record.
            load: Loader options, such as `selectinload(Order.lines)`, with which records are loaded
                anew when an attempt begins; or a function of the class that returns them.
            chunk: Most records in one call of the action, which then is a static method that takes
                a list of records and a `ChunkContext`.

        Raises:
            DefinitionError: A value that no job could have.
        """
        names = locals()
        options = given(TriggerOptions, names)
        return cls(TriggerSpec(options, chosen(TriggerOptions, names)))

    @classmethod
    @explain_options(declared=ScheduledTriggerOptions)
    def scheduled(cls, key: str, **options: Unpack[ScheduleWords]) -> Self:
        """Declare a trigger that ticks: each time, jobs are made for the records that match.

        A tick picks the records in a source of the action for which `where` holds and that have no
        open job of this trigger; it is asked once more when a job starts. No `run_trigger` may name
        the trigger, `enqueue` may.

        It takes every option of `on_demand`, and:

        Args:
            key: Stable name stored with its jobs, for instance `"order.charge"`; it survives
                renames of code. In a mixin, `"{resource}.charge"` gives each resource its own.
            cron: When it ticks: five fields, such as `"*/10 * * * *"`, or `"@hourly"` to
                `"@yearly"`.
            where: Which records in a source of the action a tick picks: a function without
                arguments, or of the class, that returns a condition of SQLAlchemy, in which
                `ago(hours=24)` may be; or `everything`.
            timezone: Zone whose clock `cron` goes by, by its IANA name, such as `"Europe/Prague"`.
            catch_up: Which ticks follow that nobody was there for: `"none"`, the `"last"`, or
                `"all"`, of which there are at most 100.
            spread: Time over which the jobs of one tick become due, in 20 steps.
            limit: Most records that one tick picks.
            order_by: Which records come first, if there is a `limit` of 10,000 at most: a function
                as `where`, that returns a column or a list of them.
            batch: Records in one transaction.

        Raises:
            DefinitionError: A value that no schedule could have.
            WrongValueError: No such time, or no such time zone.
        """
        return cls._ticking({"key": key, **options}, is_hybrid=False)

    @classmethod
    @explain_options(declared=ScheduledTriggerOptions)
    def hybrid(cls, key: str, **options: Unpack[ScheduleWords]) -> Self:
        """Declare a trigger that ticks, as `scheduled` does, and that `run_trigger` may name.

        A job that anybody asked for is not asked about `where` when it starts.

        Raises:
            DefinitionError: As `scheduled`.
            WrongValueError: As `scheduled`.
        """
        return cls._ticking({"key": key, **options}, is_hybrid=True)

    @classmethod
    def _ticking(cls, names: Mapping[str, Any], *, is_hybrid: bool) -> Self:
        options = given(ScheduledTriggerOptions, names)
        schedule = ScheduleSpec.of(options, is_hybrid=is_hybrid)
        return cls(
            TriggerSpec(options, chosen(ScheduledTriggerOptions, names), schedule)
        )

    def __repr__(self) -> str:
        return f"<trigger {self.spec.options.key}>"

    @overload
    def action(
        self,
        source: enum.Enum | Collection[enum.Enum],
        target: enum.Enum,
        *,
        during: enum.Enum | None = None,
        failed: enum.Enum | None = None,
        guard: GuardFunction | Sequence[GuardFunction] | None = None,
        changes: Change | Sequence[Change] = (),
        run_trigger: NextTrigger | None = None,
        atomic: bool = False,
    ) -> ActionDecorator: ...
    @overload
    def action(
        self,
        source: enum.Enum | Collection[enum.Enum],
        target: Collection[enum.Enum],
        *,
        during: enum.Enum | None = None,
        failed: enum.Enum | None = None,
        guard: GuardFunction | Sequence[GuardFunction] | None = None,
        changes: Change | Sequence[Change] = (),
        run_trigger: NextTrigger | None = None,
        atomic: bool = False,
    ) -> WayDecorator: ...
    @overload
    def action(
        self,
        source: enum.Enum | Collection[enum.Enum],
        *,
        guard: GuardFunction | Sequence[GuardFunction] | None = None,
        changes: Change | Sequence[Change] = (),
        atomic: bool = False,
    ) -> ActionDecorator: ...
    @overload
    def action(
        self,
        source: enum.Enum | Collection[enum.Enum],
        *,
        deletes: Literal[True],
        during: enum.Enum | None = None,
        failed: enum.Enum | None = None,
        guard: GuardFunction | Sequence[GuardFunction] | None = None,
        changes: Change | Sequence[Change] = (),
        atomic: bool = False,
    ) -> ActionDecorator: ...
    @explain_options()
    def action(
        self,
        source: enum.Enum | Collection[enum.Enum],
        target: enum.Enum | Collection[enum.Enum] | None = None,
        *,
        during: enum.Enum | None = None,
        failed: enum.Enum | None = None,
        guard: GuardFunction | Sequence[GuardFunction] | None = None,
        changes: Change | Sequence[Change] = (),
        run_trigger: NextTrigger | None = None,
        atomic: bool = False,
        deletes: bool = False,
    ) -> Any:
        """Declare that the decorated method is what a job of this trigger does to its record.

        The method takes a `JobContext` (`AsyncJobContext` when it is `async def`) and any further
        annotated parameters, which are stored with the job as JSON. With `chunk=` it is a static
        method that takes a list of records and a `ChunkContext`.

        Args:
            source: State or states in which the record waits for the job.
            target: State of the record when the method returned; of several the method returns
                one. Without one the record stays where it is, wherever others move it meanwhile.
            during: State while it runs; without it the record stays in its source.
            failed: State when attempts are used up or the job is cancelled; needed with `during`.
            guard: Predicates that must still hold when the job starts; else it is cancelled as
                stale, and the method is not called.
            changes: Reusable changes, made after the body, such as `stamp("charged_at")`.
            run_trigger: Trigger or triggers whose jobs are enqueued when the record lands at the
                target, in the commit that ends this job; by target, if they differ.
            atomic: Keep record lock, body and outcome in one transaction: for short actions that
                only use the database. Under load a worker runs several `def` ones of a trigger
                without `timeout=` in one transaction, up to its `finish_batch` and at most 100,
                each in a savepoint of its own when it uses `ctx.session`.
            deletes: Delete the record when the method returned, in the commit that ends the job;
                its other jobs end with it.

        Raises:
            DefinitionError: The trigger has an action already, an option does not exist, a source
                is `"*"`, or the record has no target or two.
        """
        where = f"action of trigger {self.spec.options.key!r}"
        sources = as_tuple(source)
        refuse_every(where, sources)
        end = end_of(
            where,
            target,
            deletes=deletes,
            run_trigger=run_trigger,
            during=during,
            failed=failed,
        )
        if deletes:
            self._refuse_changes(as_tuple(changes))
        return ActionDecorator(
            self.spec,
            source=sources,
            guards=as_tuple(guard),
            changes=as_tuple(changes),
            is_atomic=atomic,
            **end,
        )

    @explain_options(refusal=WrongValueError, called="….after")
    def after(
        self,
        delay: timedelta | None = None,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
    ) -> Later:
        """Return what enqueues a job for later: `run_trigger=remind.after(days=3)`.

        It waits *delay* plus the given units; ten years at most. When the record leaves the state
        that promised the job, the job is cancelled as left.

        Raises:
            WrongValueError: The wait is not positive, a number without a unit, or no such unit.
        """
        units = {"days": days, "hours": hours, "minutes": minutes, "seconds": seconds}
        where = f"trigger {self.spec.options.key!r}: after()"
        wait = positive_wait(where, delay, units, example="….after(days=3)")
        return Later(PromiseSpec(self.spec, wait))

    def _refuse_changes(self, changes: Sequence[object]) -> None:
        if changes:
            raise DefinitionError(
                f"action of trigger {self.spec.options.key!r}",
                "it has changes, and deletes its record",
                why="a record that is gone keeps nothing",
                fix="leave out changes, or deletes=True",
            )

    def on_discard(self, hook: H) -> H:
        """Declare what runs, in the commit of the discard, when a job gave up.

        The method takes the session and the reason: `def tell(self, session, reason)`. It runs in
        a savepoint; when it fails, that is recorded and the discard stands. It belongs to its
        class, as the action does: another class with this trigger may have another.

        Raises:
            DefinitionError: It could not be called, its name is taken, or it stands in no class.
        """
        return self._declare_hook(HookKind.DISCARD, hook)

    def on_superseded(self, hook: H) -> H:
        """Declare what runs when others moved the record away while the action ran.

        The place for a refund: what the action did outside the database is not undone by that. It
        runs in the commit that ends the job, and otherwise as `on_discard`. `self` is where the
        others left it; no hook is called for a record that is gone, nor for a job that goes on.

        Raises:
            DefinitionError: It could not be called, its name is taken, or it stands in no class.
        """
        return self._declare_hook(HookKind.SUPERSEDED, hook)

    def _declare_hook(self, kind: HookKind, hook: H) -> H:
        where = f"trigger {self.spec.options.key!r}"
        method = method_of(hook)
        check_method_hook(where, kind, method)
        refuse_lost_hook(where, kind, depth=3)
        refuse_second_definition(getattr(method, "__name__", ""), depth=3)
        return cast("H", hook_of(self.spec, kind, hook))
