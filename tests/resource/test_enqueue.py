"""At most one open job for each trigger and record; every request is served by it."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from statejobs import (
    ArgumentsError,
    Enqueued,
    JobContext,
    StatefulResource,
    TransitionRefusedError,
    Trigger,
    acting_as,
    override_state,
    state_column,
    tenant,
    transition,
)
from tests.resource.support import Step, charges, set_jobs
from tests.support.shop import (
    Order,
    S,
    StoppedClock,
    new_order,
    read_jobs,
    shop_engine,
)


class Base(DeclarativeBase): ...


class Mail(StatefulResource, Base):
    """An action with arguments, and a trigger that makes them from the record."""

    __tablename__ = "mails"

    id: Mapped[int] = mapped_column(primary_key=True)
    to: Mapped[str] = mapped_column(default="a@b.example")
    state: Mapped[Step] = state_column(Step, initial=Step.NEW)

    send = Trigger.on_demand(
        "mail.send",
        priority=4,
        tags=["mail"],
        args=lambda mail: {"subject": f"for {mail.to}"} if mail.to else {},
    )

    @transition(Step.NEW, Step.QUEUED, run_trigger=send)
    def post(self) -> None: ...

    @send.action(Step.QUEUED, Step.DONE, during=Step.RUNNING, failed=Step.FAILED)
    def deliver(
        self,
        ctx: JobContext,
        subject: str,
        day: datetime | None = None,
        copy: UUID | None = None,
    ) -> None: ...

    @transition([Step.QUEUED, Step.RUNNING], Step.NEW)
    def take_back(self) -> None: ...

    @transition(Step.FAILED, Step.QUEUED, run_trigger=send)
    def again(self) -> None: ...

    @transition(Step.DONE, Step.QUEUED, run_trigger=send)
    def repeat(self) -> None: ...


@pytest.fixture
def engine(database_url):
    with shop_engine(database_url, Base) as opened:
        yield opened


@pytest.fixture
def mail(session):
    """A mail that waits for its job."""
    mail = Mail()
    session.add(mail)
    mail.post()
    session.commit()
    return mail


def move(session, mail, state):
    """Put *mail* where the runner would have put it."""
    with override_state(mail, reason="test"):
        mail.state = state
    session.commit()


# --- what is stored --------------------------------------------------------------------------


def test_a_trigger_makes_the_arguments_from_the_record(mail, engine):
    [job] = read_jobs(engine)

    assert job.args == '{"subject":"for a@b.example"}'
    assert (job.priority, job.tags) == (4, '["mail"]')


def test_enqueue_takes_typed_arguments(session, engine, mail):
    day = datetime(2030, 1, 2, tzinfo=UTC)

    Mail.deliver.enqueue(session, mail, "hello", day=day, copy=UUID(int=1))
    session.commit()

    [job] = read_jobs(engine)
    assert Mail.deliver.spec.signature.decode(job.args) == {
        "subject": "hello",
        "day": day,
        "copy": UUID(int=1),
    }


@pytest.mark.parametrize(
    ("args", "kwargs", "problem"),
    [
        ((), {}, "argument 'subject' is missing"),
        (("x",), {"copies": 2}, "argument 'copies' is unknown; did you mean 'copy'?"),
        (
            ("x",),
            {"subject": "y"},
            "argument 'subject' is given twice: by position and by name",
        ),
        ((b"x",), {}, "argument 'subject' cannot be stored: "),
        (("x", datetime(2030, 1, 2)), {}, "argument 'day' cannot be stored: "),  # noqa: DTZ001
        (("\ud800",), {}, "argument 'subject' cannot be stored: "),
    ],
    ids=["missing", "unknown", "twice", "type", "naive", "surrogate"],
)
def test_arguments_are_refused_at_enqueue_naming_the_parameter(
    session, mail, args, kwargs, problem
):
    before = read_jobs(session.get_bind())

    with pytest.raises(ArgumentsError) as refused:
        Mail.deliver.enqueue(session, mail, *args, **kwargs)
    session.commit()

    assert str(refused.value).startswith(f"Mail.deliver: {problem}")
    assert read_jobs(session.get_bind()) == before


def test_arguments_made_by_a_trigger_are_checked_in_the_flush(session, engine):
    mail = Mail(to="")
    session.add(mail)
    mail.post()

    with pytest.raises(
        ArgumentsError, match=r"^Mail.deliver: argument 'subject' is missing$"
    ):
        session.commit()
    session.rollback()

    assert read_jobs(engine) == []


# --- later, sooner, many ---------------------------------------------------------------------


def test_a_job_may_wait_for_its_time(session, engine, mail):
    session.info["statejobs.clock"] = clock = StoppedClock()
    later = clock.at + timedelta(days=1)

    Mail.deliver.options(run_at=later, priority=9).enqueue(session, mail, "x")
    session.commit()

    [job] = read_jobs(engine)
    assert (job.state, job.run_at, job.priority) == ("scheduled", later, 9)


def test_a_delay_counts_from_the_clock_of_the_session(session, engine, mail):
    session.info["statejobs.clock"] = clock = StoppedClock()

    Mail.deliver.options(delay=timedelta(minutes=5)).enqueue(session, mail, "x")
    session.commit()

    [job] = read_jobs(engine)
    assert job.run_at == clock.at + timedelta(minutes=5)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (
            {"run_at": datetime(2030, 1, 1, tzinfo=UTC), "delay": timedelta(1)},
            "give run_at or delay, not both",
        ),
        ({"run_at": datetime(2030, 1, 1)}, "has no time zone"),  # noqa: DTZ001
        ({"delay": timedelta(-1)}, "is negative"),
        ({"priority": 10}, "is not between 0"),
    ],
    ids=["both", "naive", "negative", "priority"],
)
def test_options_that_contradict_themselves_are_refused(options, problem):
    with pytest.raises(ValueError, match=problem):
        Mail.deliver.options(**options)


def test_options_add_up(session, engine, mail):
    session.info["statejobs.clock"] = clock = StoppedClock()

    Mail.deliver.options(delay=timedelta(1)).options(priority=2).enqueue(
        session, mail, "x"
    )
    session.commit()

    [job] = read_jobs(engine)
    assert (job.run_at, job.priority) == (clock.at + timedelta(1), 2)


def test_many_records_are_enqueued_with_results_in_their_order(session, engine):
    mails = [Mail() for _ in range(5)]
    session.add_all(mails)
    for mail in mails[2:]:
        mail.post()
    session.commit()
    for mail in mails[:2]:
        move(session, mail, Step.QUEUED)

    results = Mail.deliver.enqueue_many(session, [*reversed(mails), mails[0]], "x")
    session.commit()

    by_id = {job.id: job.record_id for job in read_jobs(engine)}
    assert [by_id[r.job_id] for r in results] == [
        str(m.id) for m in [*reversed(mails), mails[0]]
    ]
    assert len(by_id) == 5


def test_no_records_are_no_work(session):
    assert Mail.deliver.enqueue_many(session, [], "x") == []


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (lambda: 42, "of type int"),
        (lambda: None, "of type NoneType"),
        (lambda: [Mail()], "of type list"),
        (lambda: Mail, "the class Mail"),
        (lambda: Order(total=1), "of type Order"),
    ],
    ids=["a key", "nothing", "a list", "the class", "a record of others"],
)
def test_what_has_no_such_action_is_not_enqueued(session, engine, given, what):
    with pytest.raises(
        TypeError, match=f"^Mail.deliver: what shall be enqueued is {what}, "
    ):
        Mail.deliver.enqueue(session, given(), "x")
    with pytest.raises(TypeError, match=f" {what}, .* give the record itself"):
        Mail.deliver.enqueue_many(session, [Mail(), given()], "x")

    session.commit()
    assert read_jobs(engine) == []


def test_a_record_elsewhere_is_not_enqueued(session, engine):
    mail = Mail()

    with pytest.raises(TransitionRefusedError) as refused:
        Mail.deliver.enqueue(session, mail, "x")
    session.commit()

    assert refused.value.reasons == (
        "it is in 'new', and 'deliver' starts from 'queued'.",
    )
    assert read_jobs(engine) == []


# --- one job for each record -----------------------------------------------------------------


def test_a_request_onto_a_waiting_job_replaces_what_it_carries(session, engine, mail):
    session.info["statejobs.clock"] = clock = StoppedClock()
    set_jobs(engine, state="failed", attempt=3, reason="RuntimeError")
    [before] = read_jobs(engine)

    with acting_as("user:8"), tenant("acme"):
        result = Mail.deliver.options(priority=1).enqueue(session, mail, "new")
    session.commit()

    [job] = read_jobs(engine)
    assert (result.job_id, result.outcome) == (before.id, Enqueued.COALESCED)
    assert (job.state, job.attempt, job.max_attempts) == ("queued", 0, 5)
    assert (job.args, job.priority, job.run_at) == ('{"subject":"new"}', 1, clock.at)
    assert (job.actor, job.tenant, job.reason) == ("user:8", "acme", None)
    # other arguments are other work
    assert job.idempotency_key != before.idempotency_key


def test_a_request_onto_a_running_job_lets_it_run_again(session, engine, mail):
    move(session, mail, Step.RUNNING)
    set_jobs(engine, state="processing", attempt=2, owner="o", token="t")

    result = Mail.deliver.enqueue(session, mail, "new")
    session.commit()

    [job] = read_jobs(engine)
    assert result.outcome is Enqueued.RUN_AGAIN
    assert (job.state, job.run_again, job.attempt) == ("processing", True, 2)
    assert (job.owner, job.token) == ("o", "t")


@pytest.mark.parametrize("ended", ["discarded", "cancelled"])
def test_a_job_that_ended_without_completing_goes_on(session, engine, mail, ended):
    move(session, mail, Step.FAILED)
    set_jobs(engine, state=ended, attempt=5, crashes=2, reason="gave up")
    [before] = read_jobs(engine)

    mail.again()
    session.commit()

    [job] = read_jobs(engine)
    assert (job.id, job.idempotency_key) == (before.id, before.idempotency_key)
    assert (job.state, job.attempt, job.max_attempts) == ("queued", 5, 10)
    assert (job.crashes, job.reason, job.finished_at) == (0, None, None)


def test_a_job_that_went_on_is_reported_as_retried(session, engine, mail):
    set_jobs(engine, state="discarded", attempt=5)

    result = Mail.deliver.enqueue(session, mail, "x")

    assert result.outcome is Enqueued.RETRIED


def test_only_a_completed_job_is_followed_by_a_new_one(session, engine, mail):
    move(session, mail, Step.DONE)
    set_jobs(engine, state="completed", attempt=1)

    mail.repeat()
    session.commit()

    first, second = read_jobs(engine)
    assert (first.state, second.state) == ("completed", "queued")
    assert first.idempotency_key != second.idempotency_key


def test_an_inserted_job_is_reported_with_its_id(session, engine):
    mail = Mail()
    session.add(mail)
    session.commit()
    mail.post()
    session.commit()
    set_jobs(engine, state="completed")

    result = Mail.deliver.enqueue(session, mail, "x")
    session.commit()

    assert result.outcome is Enqueued.INSERTED
    assert result.job_id == read_jobs(engine)[-1].id


# --- leaving ---------------------------------------------------------------------------------


@pytest.mark.parametrize("waiting", ["scheduled", "queued", "failed"])
def test_leaving_a_promising_state_cancels_the_waiting_job(
    session, engine, mail, waiting
):
    set_jobs(engine, state=waiting)

    mail.take_back()
    session.commit()

    [job] = read_jobs(engine)
    assert (job.state, job.reason) == ("cancelled", "left by take_back")
    assert job.finished_at is not None


def test_leaving_during_asks_the_running_job_to_stop(session, engine, mail):
    move(session, mail, Step.RUNNING)
    set_jobs(engine, state="processing", attempt=1, token="t", reason=None)

    mail.take_back()
    session.commit()

    [job] = read_jobs(engine)
    assert (job.state, job.cancel_requested) == ("processing", True)
    assert job.reason == "left by take_back"


def test_leaving_does_not_touch_a_job_that_ended(session, engine, mail):
    set_jobs(engine, state="completed", reason=None)

    mail.take_back()
    session.commit()

    [job] = read_jobs(engine)
    assert (job.state, job.reason) == ("completed", None)


def test_leaving_and_coming_back_in_one_flush_keeps_the_job(session, engine, mail):
    [before] = read_jobs(engine)

    mail.take_back()
    mail.post()
    session.commit()

    [job] = read_jobs(engine)
    assert (job.id, job.state) == (before.id, "queued")


def test_leaving_and_coming_back_in_two_flushes_revives_the_job(session, engine, mail):
    [before] = read_jobs(engine)

    mail.take_back()
    session.flush()
    mail.post()
    session.commit()

    [job] = read_jobs(engine)
    assert (job.id, job.state, job.reason) == (before.id, "queued", None)


def test_creation_may_enqueue(database_url):
    class Own(DeclarativeBase): ...

    class Guest(StatefulResource, Own):
        __tablename__ = "guests"
        welcome = Trigger.on_demand("guest.welcome")
        id: Mapped[int] = mapped_column(primary_key=True)
        state: Mapped[Step] = state_column(Step, initial=Step.NEW, run_trigger=welcome)

        @welcome.action(Step.NEW, Step.DONE)
        def greet(self, ctx: JobContext) -> None: ...

    with shop_engine(database_url, Own) as engine, Session(engine) as session:
        session.add(Guest())
        session.commit()

        assert [job.key for job in read_jobs(engine)] == ["guest.welcome"]


def test_the_order_of_the_readme_is_enqueued_like_any_other(database_url):
    with shop_engine(database_url) as engine, Session(engine) as session:
        order = session.get(Order, new_order(engine, submitted=True))

        result = Order.process_payment.enqueue(session, order)
        session.commit()

        assert result.outcome is Enqueued.COALESCED
        assert charges(engine) == [(order.id, "queued")]
        assert order.state is S.QUEUED
