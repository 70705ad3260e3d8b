"""A domain: its defaults, where each option comes from, and its queues."""

from dataclasses import fields
from datetime import timedelta

import pytest
from sqlalchemy import Integer
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from statejobs import (
    ConfigurationError,
    Defaults,
    DefinitionError,
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    Trigger,
    WrongValueError,
    state_column,
    task,
    transition,
)
from statejobs.values.backoff import Fixed
from statejobs.values.option import options_of
from statejobs.values.options import TaskOptions
from tests.resource.support import Step, keyed
from tests.support.shop import read_jobs

SOON = timedelta(seconds=7)
ALL = Defaults(
    queue="payments",
    priority=3,
    max_attempts=9,
    backoff=SOON,
    timeout=timedelta(seconds=30),
    tags=["money"],
)


def parcels(**options):
    """A resource of a test's own, whose trigger has *options*."""

    class Own(DeclarativeBase): ...

    class Parcel(StatefulResource, Own):
        __tablename__ = "parcel"

        id: Mapped[int] = mapped_column(primary_key=True)
        state: Mapped[Step] = state_column(Step, initial=Step.NEW)
        post = Trigger.on_demand("parcel.post", **options)

        @transition(Step.NEW, Step.QUEUED, run_trigger=post)
        def send(self) -> None: ...

        @post.action(Step.QUEUED, Step.DONE)
        def run_post(self, ctx: JobContext) -> None: ...

    return Parcel


def letters(**options):
    """A task of a test's own."""

    @task("letter.write", **options)
    def write() -> None: ...

    return write


def refusal(declare, kind=DefinitionError):
    with pytest.raises(kind) as refused:
        declare()
    return str(refused.value).splitlines()


def shown(resource):
    (trigger,) = resource.__machine__.triggers
    return trigger


# Precedence --------------------------------------------------------------------------------------


def test_a_domain_gives_what_a_trigger_leaves_out():
    parcel = parcels()

    Domain("shop", resources=[parcel], defaults=ALL)

    options = shown(parcel).options
    assert (options.queue, options.priority, options.max_attempts) == ("payments", 3, 9)
    assert (options.wait, options.timeout) == (Fixed(SOON), timedelta(seconds=30))
    assert options.tags == ("money",)
    assert set(shown(parcel).origins.values()) == {"domain shop"}


def test_what_a_trigger_says_itself_goes_before_its_domain():
    parcel = parcels(queue="default", max_attempts=5, tags=())

    Domain("shop", resources=[parcel], defaults=ALL)

    trigger = shown(parcel)
    assert (trigger.queue, trigger.max_attempts, trigger.options.tags) == (
        "default",
        5,
        (),
    )
    assert trigger.origins == {
        "queue": "option",
        "priority": "domain shop",
        "max_attempts": "option",
        "backoff": "domain shop",
        "timeout": "domain shop",
        "tags": "option",
    }


def test_what_nobody_says_is_ours():
    parcel = parcels(priority=1)

    Domain("shop", resources=[parcel], defaults=Defaults(queue="payments"))

    trigger = shown(parcel)
    assert trigger.max_attempts == 5
    assert trigger.origins["max_attempts"] == "default"
    assert trigger.origins["priority"] == "option"
    assert trigger.origins["queue"] == "domain shop"


def test_without_a_domain_every_option_says_so():
    trigger = shown(parcels(queue="payments"))

    assert trigger.origins["queue"] == "option"
    assert {v for k, v in trigger.origins.items() if k != "queue"} == {"default"}


def test_a_task_has_the_defaults_of_its_domain_also_in_what_was_made_of_it_before():
    write = letters(max_attempts=2)
    urgent = write.options(priority=0)

    Domain("post", tasks=[write], defaults=ALL)

    for spec in (write.spec, urgent.spec):
        assert (spec.options.queue, spec.options.max_attempts) == ("payments", 2)


def test_a_hook_that_is_declared_later_keeps_the_defaults():
    write = letters()
    Domain("post", tasks=[write], defaults=ALL)

    @write.on_discard
    def tell(session: Session, reason: str) -> None: ...

    assert write.spec.options.queue == "payments"


def test_the_classes_of_a_hierarchy_share_their_domain():
    class Own(DeclarativeBase): ...

    parcel = keyed(Integer, "Parcel", Own)

    class Early(parcel): ...

    Domain("shop", resources=[parcel], defaults=ALL)

    class Late(parcel): ...

    for cls in (parcel, Early, Late):
        assert shown(cls).queue == "payments"
        assert shown(cls).origins["queue"] == "domain shop"


def test_two_resources_with_a_trigger_of_a_mixin_have_each_their_domain():
    class Own(DeclarativeBase): ...

    class Posted:
        post = Trigger.on_demand("{resource}.post")

        @transition(Step.NEW, Step.QUEUED, run_trigger=post)
        def send(self) -> None: ...

        @post.action(Step.QUEUED, Step.DONE)
        def run_post(self, ctx: JobContext) -> None: ...

    def made(name):
        body = {
            "__tablename__": name.lower(),
            "__annotations__": {"state": Mapped[Step]},
            "id": mapped_column(Integer, primary_key=True),
            "state": state_column(Step, initial=Step.NEW),
        }
        return type(name, (StatefulResource, Posted, Own), body)

    letter, card = made("Letter"), made("Card")
    Domain("letters", resources=[letter], defaults=Defaults(queue="slow"))
    Domain("cards", resources=[card], defaults=Defaults(queue="fast"))

    assert (shown(letter).queue, shown(card).queue) == ("slow", "fast")


def test_the_same_defaults_again_or_none_change_nothing():
    parcel = parcels()
    Domain("shop", resources=[parcel], defaults=Defaults(queue="payments"))

    Domain("shop", resources=[parcel], defaults=Defaults(queue="payments"))
    Domain("test", resources=[parcel])

    assert shown(parcel).queue == "payments"


def test_other_defaults_by_another_domain_are_refused():
    parcel = parcels()
    Domain("shop", resources=[parcel], defaults=Defaults(queue="payments"))

    lines = refusal(
        lambda: Domain("mail", resources=[parcel], defaults=Defaults(queue="mail"))
    )

    assert lines == [
        "Parcel: Domain('shop') has given it other defaults than Domain('mail')",
        "  why: a job is enqueued by a class or a function, whichever app is about",
        "  fix: give both domains the same Defaults, or only one of them any",
    ]
    assert shown(parcel).queue == "payments"


def test_each_option_that_a_domain_may_give_is_one_of_defaults():
    by_domain = [n for n, o in options_of(TaskOptions).items() if o.by_domain]

    assert [field.name for field in fields(Defaults)] == by_domain


# Jobs --------------------------------------------------------------------------------------------


@pytest.fixture
def app_of(database_url):
    """Makes an app with the tables of its domains."""
    made = []

    def make(*domains, **options):
        made.append(StateJobs(database_url, domains=domains, **options))
        made[-1].create_all()
        return made[-1]

    yield make
    for app in made:
        app.close()


def test_jobs_are_stored_and_run_as_the_domain_says(app_of):
    parcel, write = parcels(), letters()
    app = app_of(
        Domain(
            "shop",
            resources=[parcel],
            tasks=[write],
            queues={"payments": 2},
            defaults=ALL,
        )
    )
    with app.session() as session:
        order = parcel()
        session.add(order)
        order.send()
        write.enqueue(session)
        session.commit()

    stored = read_jobs(app.engine)
    assert [(j.queue, j.priority, j.max_attempts, j.tags) for j in stored] == [
        ("payments", 3, 9, '["money"]')
    ] * 2
    assert app.drain().counts == {"complete": 2}


def test_an_attempt_that_fails_waits_as_the_domain_says(app_of):
    @task("letter.burn")
    def burn() -> None:
        raise ValueError("no fire")

    app = app_of(Domain("post", tasks=[burn], defaults=Defaults(backoff=SOON)))
    with app.session() as session:
        burn.enqueue(session)
        session.commit()

    (ended,) = app.drain().ended

    wait = ended.job.run_at - ended.job.started_at
    assert SOON <= wait < SOON + timedelta(seconds=5)


def test_bulk_stores_jobs_as_the_domain_says(app_of):
    parcel = parcels()
    app = app_of(Domain("shop", resources=[parcel], defaults=ALL))
    with app.session() as session:
        session.add_all([parcel(), parcel()])
        session.commit()
        parcel.send.bulk(session, where=parcel.id > 0)
        session.commit()

    assert [(j.queue, j.max_attempts) for j in read_jobs(app.engine)] == [
        ("payments", 9)
    ] * 2


# Queues ------------------------------------------------------------------------------------------


def test_the_queues_of_an_app_and_of_its_domains_are_joined(sqlite_url):
    shop = Domain("shop", queues={"payments": 5, "mail": 2})
    mail = Domain("mail", queues={"mail": 2})

    app = StateJobs(sqlite_url, domains=[shop, mail], queues={"slow": 1})

    assert app.queues == {"slow": 1, "payments": 5, "mail": 2}


def test_an_app_that_names_no_queue_serves_the_default_one_beside_those_of_its_domains(
    sqlite_url,
):
    shop = Domain("shop", queues={"payments": 5})
    small = Domain("small", queues={"default": 1})

    assert StateJobs(sqlite_url, domains=[shop]).queues == {
        "default": 10,
        "payments": 5,
    }
    assert StateJobs(sqlite_url, domains=[small]).queues == {"default": 1}
    assert StateJobs(sqlite_url, domains=[shop], queues={}).queues == {"payments": 5}


@pytest.mark.parametrize(
    ("own", "said"),
    [({"mail": 3}, "3 by the app"), (None, "2 by domain 'shop'")],
)
def test_a_queue_with_two_limits_is_refused(sqlite_url, own, said):
    domains = [
        Domain("shop", queues={"mail": 2} if own is None else {}),
        Domain("post", queues={"mail": 4}),
    ]

    lines = refusal(
        lambda: StateJobs(sqlite_url, domains=domains, queues=own), ConfigurationError
    )

    assert lines == [
        f"queue 'mail' has two limits: {said}, 4 by domain 'post'",
        "  why: a worker runs so many of its jobs at once, whosever they are",
        "  fix: name the queue in one place, or with one limit",
    ]


# Bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("queue", "a queue", "Defaults: queue 'a queue' is not a stable name"),
        ("priority", 10, "Defaults: priority=10"),
        ("max_attempts", 0, "Defaults: max_attempts=0"),
        ("timeout", timedelta(), "Defaults: timeout=0:00:00"),
        ("timeout", 5, "Defaults: timeout must be a timedelta, not 5"),
        ("backoff", "soon", "Defaults: "),
        ("tags", "money", "Defaults: tags= "),
    ],
)
def test_a_default_is_refused_as_the_option_would_be(option, value, said):
    with pytest.raises((DefinitionError, WrongValueError)) as refused:
        Defaults(**{option: value})

    assert str(refused.value).startswith(said)


def test_an_unknown_default_names_the_closest():
    lines = refusal(lambda: Defaults(max_attemps=3))

    assert lines[0].endswith("unknown option 'max_attemps'")
    assert lines[0].startswith("Defaults() in test_domains.py, line ")
    assert lines[2] == "  fix: did you mean 'max_attempts'?"


def test_an_unknown_option_of_a_domain_names_the_closest():
    lines = refusal(lambda: Domain("shop", resource=[]))

    assert lines[0].endswith("unknown option 'resource'")
    assert lines[2] == "  fix: did you mean 'resources'?"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"defaults": {"queue": "x"}},
            "Domain('shop'): defaults= must be a Defaults, not {'queue': 'x'}",
        ),
        ({"queues": ["mail"]}, "Domain('shop'): queues= "),
        ({"queues": {"mail": 0}}, "queue 'mail': limit 0 must be a whole number"),
        ({"queues": {3: 1}}, "Domain('shop'): queues=: each name must be text, not 3"),
    ],
)
def test_what_a_domain_cannot_take_is_refused(options, said):
    with pytest.raises((ConfigurationError, WrongValueError)) as refused:
        Domain("shop", **options)

    assert str(refused.value).startswith(said)


def test_two_domains_of_an_app_have_two_names(sqlite_url):
    lines = refusal(
        lambda: StateJobs(sqlite_url, domains=[Domain("shop"), Domain("shop")])
    )

    assert lines == [
        "Domain('shop'): another domain of the app has its name",
        "  why: a worker is told by name which domains it serves",
        "  fix: give each a name of its own, or list all of it in one",
    ]


def test_a_drain_counts_what_waits_in_queues_that_the_app_does_not_have(database_url):
    @task("left.write")
    def write() -> None: ...

    @task("left.read", queue="default")
    def read() -> None: ...

    domain = Domain("mail", tasks=[write, read], defaults=Defaults(queue="mials"))
    with StateJobs(database_url, domains=[domain], queues={"default": 1}) as app:
        app.create_all()
        with app.session() as session:
            write.enqueue_many(session, [{}, {}])
            read.enqueue(session)
            session.commit()

        done = app.drain()
        again = app.drain()

        assert (done.counts, done.unserved) == ({"complete": 1}, {"mials": 2})
        assert repr(again) == (
            "<DrainResult: nothing to run; "
            "2 in queue 'mials', which the app does not have>"
        )
