"""What cannot be a task is refused when it is declared, in words that can be read aloud."""

from datetime import timedelta

import pytest
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    AsyncJobContext,
    DefinitionError,
    Domain,
    JobContext,
    StatefulResource,
    Trigger,
    state_column,
    task,
)
from statejobs.declare.registry import Registry
from tests.resource.support import Step


def said(refused):
    """What the refusal says, a part on each line."""
    return str(refused.value).splitlines()


def refusal(declare):
    with pytest.raises(DefinitionError) as refused:
        declare()
    return said(refused)


def registry(*tasks, resources=()):
    return Registry([Domain("d", resources=resources, tasks=tasks)])


# Options -----------------------------------------------------------------------------------------


def test_an_unknown_option_names_the_closest():
    lines = refusal(lambda: task("a.b", max_attemps=3))

    assert lines[0].startswith("task() in test_task_definitions.py, line ")
    assert lines[0].endswith("unknown option 'max_attemps'")
    assert lines[2] == "  fix: did you mean 'max_attempts'?"


def test_an_option_of_triggers_only_is_unknown():
    assert "unknown option 'args'" in refusal(lambda: task("a.b", args={"x": 1}))[0]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"priority": 10}, "priority=10"),
        ({"max_attempts": 0}, "max_attempts=0"),
        ({"max_crashes": 0}, "max_crashes=0"),
        ({"max_snoozes": 0}, "max_snoozes=0"),
        ({"timeout": timedelta()}, "timeout=0:00:00"),
        ({"queue": "a queue"}, "queue 'a queue' is not a stable name"),
        ({"aliases": ["a b"]}, "key 'a b' is not a stable name"),
        ({"backoff": 5}, "backoff: 5 has no unit; say timedelta(seconds=5)"),
    ],
)
def test_a_value_that_no_job_could_have(options, what):
    assert refusal(lambda: task("a.b", **options))[0] == f"task 'a.b': {what}"


@pytest.mark.parametrize("key", ["", "a b", "1st", "{resource}.x", "x" * 201])
def test_a_key_that_is_no_stable_name(key):
    assert refusal(lambda: task(key))[0].endswith(f"key {key!r} is not a stable name")


def test_without_parentheses():
    def daily(): ...

    lines = refusal(lambda: task(daily))

    assert lines[0].startswith("@task: its key is <function")
    assert lines[2] == '  fix: say @task("daily")'


# The function ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [print, int, object(), staticmethod(print)],
    ids=["a builtin", "a class", "an object", "a static method"],
)
def test_what_is_not_a_function(body):
    assert "is not a function" in refusal(lambda: task("a.b")(body))[0]


def test_a_generator():
    def pages():
        yield 1

    async def more_pages():
        yield 1

    for body in (pages, more_pages):
        lines = refusal(lambda body=body: task("a.b")(body))
        assert lines[0] == f"task 'a.b', {body.__name__}(): it is a generator"


def test_a_method():
    def declare():
        class Report:
            @task("a.b")
            def write(self): ...

    lines = refusal(declare)

    assert lines[0] == "task 'a.b', write(): it is a method"
    assert "Trigger" in lines[2]


@pytest.mark.parametrize("kind", ["*args", "**kwargs", "a, /"])
def test_a_parameter_without_a_name_is_refused_with_the_app(kind):
    names = {}
    exec(f"def body({kind}): ...", names)
    declared = task("a.b")(names["body"])

    assert refusal(lambda: registry(declared))[0].startswith("body: parameter ")


def test_a_parameter_that_json_cannot_hold_is_refused_with_the_app():
    @task("a.b")
    def body(thing: complex) -> None: ...

    lines = refusal(lambda: registry(body))

    assert lines[0].startswith("body: parameter 'thing' cannot be stored")


def test_an_annotation_that_cannot_be_resolved_is_refused_with_the_app():
    @task("a.b")
    def body(thing: "Nowhere") -> None: ...  # noqa: F821 - that is the mistake

    lines = refusal(lambda: registry(body))

    assert lines[0] == "body: the annotation 'Nowhere' of 'thing' cannot be resolved"


# The context -------------------------------------------------------------------------------------


def test_the_context_of_the_other_colour():
    def plain(ctx: AsyncJobContext) -> None: ...
    async def waits(ctx: JobContext) -> None: ...

    assert refusal(lambda: task("a.b")(plain))[0] == (
        "task 'a.b', plain(): it takes JobContext, not AsyncJobContext"
    )
    assert (
        refusal(lambda: task("a.b")(waits))[2]
        == "  fix: annotate it: ctx: AsyncJobContext"
    )


def test_a_context_that_is_not_first():
    def late(day: int, context: JobContext) -> None: ...
    def named(*, context: JobContext) -> None: ...

    for body in (late, named):
        lines = refusal(lambda body=body: task("a.b")(body))
        assert lines[0].endswith("'context' is a context, but not the first parameter")


def test_a_context_without_a_type():
    def body(ctx, day: int) -> None: ...

    lines = refusal(lambda: task("a.b")(body))

    assert lines[0] == "task 'a.b', body(): 'ctx' has no annotation"
    assert lines[2] == "  fix: annotate it: ctx: JobContext"


def test_a_context_is_known_by_its_type_however_it_is_written():
    @task("a.a")
    def by_class(context: JobContext, n: int) -> None: ...

    @task("a.b")
    def by_text(context: "JobContext", n: int) -> None: ...

    @task("a.c")
    def by_path(context: "statejobs.JobContext", n: int) -> None: ...  # noqa: F821

    @task("a.d")
    def none(context: int, n: int) -> None: ...

    registry(by_class, by_text, by_path, none)
    assert [
        list(one.spec.signature.parameters)
        for one in (by_class, by_text, by_path, none)
    ] == [
        ["n"],
        ["n"],
        ["n"],
        ["context", "n"],
    ]


# on_discard --------------------------------------------------------------------------------------


def declare_hook(hook):
    @task("a.b")
    def body(day: int, *, note: str = "") -> None: ...

    body.on_discard(hook)
    return body


def test_a_hook_takes_what_the_body_takes():
    def same(session, reason, day, *, note=""): ...
    def anything(session, reason, **_): ...

    for hook in (same, anything):
        assert declare_hook(hook).spec.discard_hook is hook


@pytest.mark.parametrize(
    "parameters", ["reason", "session, reason", "session, reason, day, note"]
)
def test_a_hook_that_could_not_be_called(parameters):
    names = {}
    exec(f"def tell({parameters}): ...", names)

    lines = refusal(lambda: declare_hook(names["tell"]))

    assert lines[0].startswith(
        "task 'a.b': its @on_discard, 'tell', cannot be called: "
    )
    assert lines[2].startswith("  fix: def tell(session, reason, day")


def test_an_async_hook():
    async def tell(session, reason, day, *, note=""): ...

    assert refusal(lambda: declare_hook(tell))[0].endswith(
        "its @on_discard, 'tell', is async"
    )


def test_two_hooks():
    def tell(session, reason, day, *, note=""): ...

    body = declare_hook(tell)

    assert refusal(lambda: body.on_discard(tell))[0].endswith(
        "it has two @on_discard functions"
    )


# Domains -----------------------------------------------------------------------------------------


def report(key="report.daily", **options):
    @task(key, **options)
    def daily() -> None: ...

    return daily


def resource(key):
    class Base(DeclarativeBase): ...

    class Bill(StatefulResource, Base):
        __tablename__ = "bills"
        id: Mapped[int] = mapped_column(primary_key=True)
        pay = Trigger.on_demand(key)
        state: Mapped[Step] = state_column(Step, initial=Step.NEW, run_trigger=pay)

        @pay.action(Step.NEW, Step.DONE)
        def send(self, ctx: JobContext) -> None: ...

    return Bill


def test_a_function_that_is_no_task():
    def daily(): ...

    lines = refusal(lambda: Domain("d", tasks=[daily]))

    assert lines[0].startswith("Domain('d'): <function")
    assert lines[0].endswith("is not a task")
    assert lines[2] == '  fix: say @task("…") above `def daily`, and list that'


def test_a_key_of_two_tasks():
    lines = refusal(lambda: registry(report(), report()))

    name = f"task {__name__}.daily"
    assert lines[0] == f"{name}: key 'report.daily' is used by {name} already"


@pytest.mark.parametrize(
    "mine",
    [{"key": "bill.pay"}, {"key": "bill.report", "aliases": ["bill.pay"]}],
    ids=["key", "alias"],
)
def test_a_key_of_a_task_and_a_trigger_names_both(mine):
    daily = report(**mine)

    lines = refusal(lambda: registry(daily, resources=[resource("bill.pay")]))

    assert lines == [
        f"task {__name__}.daily: key 'bill.pay' is used by Bill.pay already",
        "  why: a stored job names its work by the key alone",
        "  fix: give each a key of its own; in a mixin, say '{resource}.…'",
    ]


def test_a_task_may_be_listed_in_several_domains():
    daily = report()

    found = Registry([Domain("a", tasks=[daily]), Domain("b", tasks=[daily])])

    assert found.tasks == {"report.daily": daily}


def test_an_app_knows_the_keys_and_queues_of_both():
    found = registry(
        report(queue="reports", aliases=["old"]), resources=[resource("bill.pay")]
    )

    assert found.known_keys() == ["bill.pay", "report.daily", "old"]
    assert found.named_queues() == ["default", "reports"]
