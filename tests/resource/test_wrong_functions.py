"""A function that could not be called as it will be is refused when its class is made."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from inspect import isfunction
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from statejobs import (
    AsyncJobContext,
    ChunkContext,
    DefinitionError,
    JobContext,
    StatefulResource,
    Trigger,
    WrongValueError,
    guard,
    state_column,
    task,
    transition,
)
from statejobs.declare.context import BaseContext
from tests.resource.support import Step

if TYPE_CHECKING:
    from sqlalchemy.orm import Session as Saved


def bill(**declared):
    """Make a resource with these declarations; return what its refusal says."""

    class Base(DeclarativeBase): ...

    names = {
        "__tablename__": "bills",
        "__annotations__": {"id": Mapped[int], "state": Mapped[Step]},
        "id": mapped_column(primary_key=True),
        "state": state_column(Step, initial=Step.NEW),
        **declared,
    }
    return type("Bill", (StatefulResource, Base), names)


def refusal(declare):
    with pytest.raises(DefinitionError) as refused:
        declare()
    return str(refused.value).splitlines()


def with_ways(body):
    """Make a resource whose action is *body*, and has two targets."""
    charge = Trigger.on_demand("bill.charge")
    return bill(charge=charge, pay=charge.action(Step.NEW, (Step.DONE, Step.OLD))(body))


def functions_of(cls):
    return [value for value in vars(cls).values() if isfunction(value)]


def with_action(body, **options):
    """Make a resource whose action is *body*."""
    charge = Trigger.on_demand("bill.charge", **options)
    return bill(charge=charge, pay=charge.action(Step.NEW, Step.DONE)(body))


# The context of an action ------------------------------------------------------------------------


def test_an_action_that_takes_the_session_is_told_where_the_session_is():
    def pay(self, ctx: Session) -> None: ...

    assert refusal(lambda: with_action(pay)) == [
        "Bill.pay: a `def` action takes JobContext, not Session",
        "  why: the runner passes a JobContext: session, attempt, idempotency key",
        "  fix: say ctx: JobContext; the session is ctx.session",
    ]


def test_an_async_action_that_takes_the_session_is_told_so_too():
    async def pay(self, session: AsyncSession) -> None: ...

    assert refusal(lambda: with_action(pay)) == [
        "Bill.pay: an `async def` action takes AsyncJobContext, not AsyncSession",
        "  why: the runner passes an AsyncJobContext: session, attempt, idempotency key",
        "  fix: say ctx: AsyncJobContext; the session is ctx.session",
    ]


class Mine(JobContext):
    """A context of the user's own, which no runner makes."""


class SyncBodies:
    def async_session(self, ctx: AsyncSession): ...
    def async_context(self, ctx: AsyncJobContext): ...
    def unions(self, ctx: Session | AsyncSession): ...
    def optional(self, ctx: AsyncJobContext | None): ...
    def subclass(self, ctx: Mine): ...
    def beside_what_cannot_be_read(self, ctx: Session, order: Nowhere): ...  # noqa: F821
    def for_checkers_only(self, ctx: somewhere.AsyncSession): ...  # noqa: F821
    def path(self, ctx: somewhere.AsyncJobContext): ...  # noqa: F821


@pytest.mark.parametrize(
    "body", functions_of(SyncBodies), ids=lambda body: body.__name__
)
def test_a_plain_action_takes_what_its_runner_passes(body):
    assert (
        " `def` action takes JobContext, not " in refusal(lambda: with_action(body))[0]
    )


class AsyncBodies:
    async def session(self, ctx: Session): ...
    async def context(self, ctx: JobContext): ...
    async def optional(self, ctx: JobContext | None): ...


@pytest.mark.parametrize(
    "body", functions_of(AsyncBodies), ids=lambda body: body.__name__
)
def test_an_async_action_takes_what_its_runner_passes(body):
    assert (
        " `async def` action takes AsyncJobContext, not "
        in refusal(lambda: with_action(body))[0]
    )


class HasSession(Protocol):
    session: Any


class GoodBodies:
    def context(self, ctx: JobContext): ...
    def bare(self, ctx): ...
    def base(self, ctx: BaseContext): ...
    def anything(self, ctx: Any): ...
    def either(self, ctx: JobContext | AsyncJobContext): ...
    def protocol(self, ctx: HasSession): ...
    def unknown(self, ctx: Nowhere): ...  # noqa: F821
    def with_defaults(self, ctx: JobContext, amount: int = 1, *, note: str = ""): ...
    async def waits(self, ctx: AsyncJobContext): ...
    async def either_waits(self, ctx: JobContext | AsyncJobContext): ...


@pytest.mark.parametrize(
    "body", functions_of(GoodBodies), ids=lambda body: body.__name__
)
def test_a_context_may_be_written_in_other_ways(body):
    assert with_action(body).pay.spec.body is body


def test_an_action_whose_first_argument_is_no_context_is_shown_where_it_goes():
    def pay(self, amount: int) -> None: ...

    lines = refusal(lambda: with_action(pay))

    assert (
        lines[0]
        == "Bill.pay: its first parameter after self, 'amount', is no JobContext"
    )
    assert lines[2] == "  fix: def pay(self, ctx: JobContext, amount: int, …)"


class Misplaced:
    def late(self, amount, ctx: JobContext): ...
    def by_name(self, amount, ctx): ...
    def keyword(self, *, ctx: JobContext): ...


@pytest.mark.parametrize(
    "body", functions_of(Misplaced), ids=lambda body: body.__name__
)
def test_a_context_that_is_not_first_after_self(body):
    lines = refusal(lambda: with_action(body))

    assert lines[0].endswith(
        "'ctx' is the context, but not the first parameter after self"
    )


def test_an_action_without_self():
    def pay(ctx: JobContext, amount: int) -> None: ...

    lines = refusal(lambda: with_action(pay))

    assert lines[0] == "Bill.pay: its first parameter, 'ctx', is the context"
    assert lines[2] == "  fix: def pay(self, ctx: JobContext) -> None"


@pytest.mark.parametrize(
    "context", ["JobContext", "AsyncJobContext", "Session", "AsyncSession"]
)
def test_a_chunk_action_with_another_context_beside_a_class_that_comes_later(context):
    names = {}
    exec(f"def pay(records: 'list[Bill]', ctx: 'm.{context}'): ...", names)

    lines = refusal(lambda: with_action(staticmethod(names["pay"]), chunk=10))

    assert lines[0] == f"Bill.pay: a chunk action takes ChunkContext, not {context}"


def test_a_list_for_a_trigger_without_a_chunk_beside_a_class_that_comes_later():
    def pay(records: list[Bill], ctx: ChunkContext): ...  # noqa: F821

    lines = refusal(lambda: with_action(pay))

    assert "takes a list of records, and trigger" in lines[0]


# What stands under a decorator -------------------------------------------------------------------


class Generators:
    def yields(self, ctx: JobContext):
        yield 1

    async def waits(self, ctx: AsyncJobContext):
        yield 1


@pytest.mark.parametrize(
    "body", functions_of(Generators), ids=lambda body: body.__name__
)
def test_a_generator_is_no_action_and_no_transition(body):
    as_action = refusal(lambda: with_action(body))
    as_transition = refusal(lambda: bill(go=transition(Step.NEW, Step.DONE)(body)))

    assert as_action[0] == f"Bill.{body.__name__}: it is a generator"
    assert as_transition[0] == f"Bill.{body.__name__}: it is a generator"


def plain(self, ctx: JobContext): ...


@pytest.mark.parametrize(
    "body",
    [classmethod(plain), property(plain), partial(plain), Mine, "plain", None],
    ids=["class method", "property", "partial", "class", "text", "nothing"],
)
def test_what_is_no_method_is_no_action_and_no_transition(body):
    charge = Trigger.on_demand("bill.charge")

    as_action = refusal(lambda: charge.action(Step.NEW, Step.DONE)(body))
    as_transition = refusal(lambda: transition(Step.NEW, Step.DONE)(body))

    what = "class" if body is Mine else type(body).__name__
    assert f"@action is put on a {what}, not on a method" in as_action[0]
    assert f"@transition is put on a {what}, not on a method" in as_transition[0]


# on_discard --------------------------------------------------------------------------------------


def on_discard(hook):
    charge = Trigger.on_demand("bill.charge")

    class Hooked:
        tell = charge.on_discard(hook)

    return Hooked


def test_a_wrong_signature_of_on_discard_says_the_right_one():
    def tell(self, reason): ...

    assert refusal(lambda: on_discard(tell)) == [
        "trigger 'bill.charge': its @on_discard, 'tell', cannot be called: "
        "too many positional arguments",
        "  why: it is passed its record, the session and the reason",
        "  fix: def tell(self, session: Session, reason: str) -> None",
    ]


class WrongHooks:
    def nothing(): ...
    def less(self): ...
    def more(self, session, reason, job): ...
    def swapped(self, reason, session): ...
    def by_type(self, why: str, db: Session): ...
    def context(self, ctx: JobContext, reason): ...
    def async_session(self, session: AsyncSession, reason): ...
    def error(self, session, reason: Exception): ...
    def keyword(self, session, *, reason): ...

    async def waits(self, session, reason): ...

    def yields(self, session, reason):
        yield


@pytest.mark.parametrize(
    "hook", functions_of(WrongHooks), ids=lambda hook: hook.__name__
)
def test_a_hook_that_could_not_be_called_so(hook):
    lines = refusal(lambda: on_discard(hook))

    name = hook.__name__
    assert lines[0].startswith(f"trigger 'bill.charge': its @on_discard, {name!r}, ")


@pytest.mark.parametrize(
    "hook",
    [classmethod(plain), transition(Step.NEW, Step.DONE)(lambda self: None), "tell"],
)
def test_a_hook_that_is_no_function(hook):
    assert refusal(lambda: on_discard(hook))[0].endswith("which cannot be called")


class GoodHooks:
    def typed(self, session: Session, reason: str): ...
    def other_names(self, db, why): ...
    def defaults(self, session, reason, job=None): ...
    def anything(*given): ...
    def for_checkers_only(self, session: Saved, reason: str): ...


@pytest.mark.parametrize(
    "hook", functions_of(GoodHooks), ids=lambda hook: hook.__name__
)
def test_a_hook_may_be_written_in_other_ways(hook):
    assert on_discard(hook).tell is hook


def hooks_of_tasks():
    def swapped(reason, session, day): ...
    def context(ctx: JobContext, reason, day): ...
    def error(session, reason: Exception, day): ...

    async def waits(session, reason, day): ...

    def yields(session, reason, day):
        yield

    return list(locals().values())


@pytest.mark.parametrize("hook", hooks_of_tasks(), ids=lambda hook: hook.__name__)
def test_a_hook_of_a_task_that_could_not_be_called_so(hook):
    @task("a.b")
    def body(day: int) -> None: ...

    lines = refusal(lambda: body.on_discard(hook))

    assert lines[0].startswith(f"task 'a.b': its @on_discard, {hook.__name__!r}, ")


# What an action returns --------------------------------------------------------------------------


def test_an_action_of_several_targets_that_returns_none_of_them():
    def pay(self, ctx: JobContext) -> None: ...

    assert refusal(lambda: with_ways(pay)) == [
        "Bill.pay: it is annotated `-> None`, and has several targets: done, old",
        "  why: of several targets the method returns the one to which its record goes",
        "  fix: return a state, and annotate it: -> Step; or name one target",
    ]


def test_an_async_one_is_told_so_too():
    async def pay(self, ctx: AsyncJobContext) -> None: ...

    assert "it is annotated `-> None`" in refusal(lambda: with_ways(pay))[0]


class Returning:
    def a_state(self, ctx: JobContext) -> Step: ...
    def perhaps(self, ctx: JobContext) -> Step | None: ...
    def for_checkers_only(self, ctx: JobContext) -> Nowhere: ...  # noqa: F821
    def unsaid(self, ctx: JobContext): ...


@pytest.mark.parametrize(
    "body", functions_of(Returning), ids=lambda body: body.__name__
)
def test_one_that_may_return_a_target_is_taken(body):
    assert len(with_ways(body).__machine__.states) == len(Step)


# Functions given as options ----------------------------------------------------------------------


async def waits(*given): ...


def yields(*given):
    yield


def takes_nothing(): ...


def takes_four(a, b, c, d): ...


WRONG = [waits, yields, takes_nothing, takes_four]


@pytest.mark.parametrize("function", WRONG, ids=lambda function: function.__name__)
def test_a_guard_that_could_not_be_asked(function):
    charge = Trigger.on_demand("bill.charge")
    guarded = transition(Step.NEW, Step.DONE, guard=function)(lambda self: None)
    action = charge.action(Step.NEW, Step.DONE, guard=[bool, function])(plain)

    for declared in ({"go": guarded}, {"charge": charge, "plain": action}):
        lines = refusal(lambda declared=declared: bill(**declared))
        assert f"its guard {function.__name__!r} " in lines[0]


@pytest.mark.parametrize("function", WRONG, ids=lambda function: function.__name__)
def test_a_guard_whose_sql_could_not_be_asked(function):
    assert refusal(lambda: guard(sql=function))[0].startswith("guard(sql=…): it ")


@pytest.mark.parametrize("function", WRONG, ids=lambda function: function.__name__)
@pytest.mark.parametrize("option", ["args", "upcast", "backoff"])
def test_an_option_that_could_not_be_called(option, function):
    lines = refusal(lambda: Trigger.on_demand("bill.charge", **{option: function}))

    assert lines[0].startswith(f"trigger 'bill.charge': {option}")


@pytest.mark.parametrize("function", WRONG, ids=lambda function: function.__name__)
@pytest.mark.parametrize("option", ["upcast", "backoff"])
def test_an_option_of_a_task_that_could_not_be_called(option, function):
    lines = refusal(lambda: task("a.b", **{option: function}))

    assert lines[0].startswith(f"task 'a.b': {option}")


def test_a_backoff_of_an_own_class_takes_three_arguments():
    class Mean:
        def delay(self, attempt):
            return timedelta(attempt)

    lines = refusal(lambda: Trigger.on_demand("bill.charge", backoff=Mean()))

    assert "cannot be asked: too many positional arguments" in lines[0]


class Loud:
    """Its repr raises."""

    def __repr__(self):
        raise RuntimeError("not to be shown")


class Huge:
    """Its repr is long."""

    def __repr__(self):
        return "x" * 1_000_000


@pytest.mark.parametrize("value", [Loud(), Huge()], ids=["loud", "huge"])
@pytest.mark.parametrize(
    "option", ["load", "priority", "paused", "log_level", "queue", "tags", "chunk"]
)
def test_an_option_is_shown_whatever_its_repr_does(option, value):
    with pytest.raises((DefinitionError, WrongValueError)) as refused:
        Trigger.on_demand("bill.charge", **{option: value})

    assert option in str(refused.value)
    assert len(str(refused.value)) < 1_000


@pytest.mark.parametrize("value", [Loud(), Huge()], ids=["loud", "huge"])
@pytest.mark.parametrize("option", ["guard", "allow", "changes", "run_trigger"])
def test_what_a_transition_has_is_shown_whatever_its_repr_does(option, value):
    go = transition(Step.NEW, Step.DONE, **{option: value})(lambda self: None)

    assert len(refusal(lambda: bill(go=go))[0]) < 1_000
