"""`on_superseded` runs when others moved the record away while its action ran, and only then."""

from enum import StrEnum

import pytest
from sqlalchemy import delete
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from statejobs import (
    AsyncJobContext,
    ChunkContext,
    DefinitionError,
    Domain,
    JobContext,
    JobState,
    StatefulResource,
    StateJobs,
    Trigger,
    state_column,
    transition,
)
from tests.support.clock import ManualClock, manual_sources
from tests.support.parcels import LEASE, close_app


class Base(DeclarativeBase):
    """The user's base."""


class S(StrEnum):
    DUE = "due"
    CHARGING = "charging"
    PAID = "paid"
    FAILED = "failed"
    VOID = "void"
    REFUNDED = "refunded"


TOLD: list[tuple[int, str, str]] = []
DURING: list = []
"""What happens to each record while its action runs."""
AFTER: list = []
"""What the hook of a fee does besides."""


def happen(fee):
    for event in DURING:
        event(fee.id)


class Charged(StatefulResource):
    """What fees of every form share."""

    __abstract__ = True

    @transition([S.DUE, S.CHARGING, S.PAID], S.VOID)
    def void(self) -> None:
        """Nothing is due."""

    @transition(S.VOID, S.REFUNDED)
    def refund(self) -> None:
        """The money goes back."""


class Fee(Charged, Base):
    __tablename__ = "fees"
    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str | None]
    state: Mapped[S] = state_column(S, initial=S.DUE)

    charge = Trigger.on_demand("fee.charge", max_attempts=2)

    @charge.action(S.DUE, S.PAID, during=S.CHARGING, failed=S.FAILED)
    def run(self, ctx: JobContext) -> None:
        happen(self)

    @transition(S.VOID, S.DUE, run_trigger=charge)
    def reopen(self) -> None:
        """It is due after all."""

    @charge.on_superseded
    def give_back(self, session: Session, reason: str) -> None:
        TOLD.append((self.id, str(self.state), reason))
        self.note = reason
        self.refund()
        for event in AFTER:
            event(session)


class AsyncFee(Charged, Base):
    __tablename__ = "async_fees"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[S] = state_column(S, initial=S.DUE)

    charge = Trigger.on_demand("async_fee.charge")

    @charge.action(S.DUE, S.PAID, during=S.CHARGING, failed=S.FAILED)
    async def run(self, ctx: AsyncJobContext) -> None:
        happen(self)

    @charge.on_superseded
    def give_back(self, session: Session, reason: str) -> None:
        TOLD.append((self.id, str(self.state), reason))
        self.refund()


class FeeOfMany(Charged, Base):
    __tablename__ = "fees_of_many"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[S] = state_column(S, initial=S.DUE)

    charge = Trigger.on_demand("fee_of_many.charge", chunk=10)

    @charge.action(S.DUE, S.PAID, during=S.CHARGING, failed=S.FAILED)
    @staticmethod
    def run(fees: "list[FeeOfMany]", ctx: ChunkContext) -> None:
        happen(fees[0])

    @charge.on_superseded
    def give_back(self, session: Session, reason: str) -> None:
        TOLD.append((self.id, str(self.state), reason))
        self.refund()


class AtomicFee(Charged, Base):
    __tablename__ = "atomic_fees"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[S] = state_column(S, initial=S.DUE)

    charge = Trigger.on_demand("atomic_fee.charge")

    @charge.action(S.DUE, S.PAID, during=S.CHARGING, failed=S.FAILED, atomic=True)
    def run(self, ctx: JobContext) -> None:
        """Nobody moves its record while it runs: it is locked."""

    @charge.on_superseded
    def give_back(self, session: Session, reason: str) -> None:
        TOLD.append((self.id, str(self.state), reason))
        self.refund()


class QuickFee(Charged, Base):
    """It waits where its action runs."""

    __tablename__ = "quick_fees"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[S] = state_column(S, initial=S.DUE)

    charge = Trigger.on_demand("quick_fee.charge")

    @charge.action(S.DUE, S.PAID)
    def run(self, ctx: JobContext) -> None:
        happen(self)

    @charge.on_superseded
    def give_back(self, session: Session, reason: str) -> None:
        TOLD.append((self.id, str(self.state), reason))
        self.refund()


FORMS = [Fee, AsyncFee, FeeOfMany, AtomicFee, QuickFee]


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def app(database_url, clock):
    TOLD.clear()
    DURING.clear()
    AFTER.clear()
    opened = StateJobs(
        database_url,
        domains=[Domain("fees", resources=FORMS)],
        sources=manual_sources(clock),
    )
    opened.create_all()
    yield opened
    close_app(opened)


def new_fees(app, form, count=1):
    """Enqueue the charge of new fees; return their keys."""
    with app.session() as session:
        fees = [form() for _ in range(count)]
        session.add_all(fees)
        session.flush()
        form.run.enqueue_many(session, fees)
        session.commit()
        return [fee.id for fee in fees]


def void(app, form, key):
    with app.session() as session:
        session.get_one(form, key).void()
        session.commit()


def stored(app, form, key):
    with app.session() as session:
        return session.get_one(form, key)


def interrupt(app, form):
    """Run a job whose record is voided meanwhile."""
    (key,) = new_fees(app, form)
    (claim,) = app.runner().claim("default", limit=1)
    void(app, form, key)
    app.runner().run(claim)
    return key


@pytest.mark.parametrize("form", [Fee, FeeOfMany, AtomicFee, QuickFee])
def test_it_runs_on_the_record_as_others_left_it(app, form):
    key = interrupt(app, form)

    ((job_key, state, reason),) = TOLD
    assert (job_key, state) == (key, "void")
    assert reason in {"left by void", "the record was moved to 'void'"}
    assert stored(app, form, key).state is S.REFUNDED
    (job,) = app.queries.jobs()
    assert job.state is JobState.CANCELLED
    assert job.reason == f"superseded: {reason}"


def test_what_it_does_is_in_the_history_in_the_name_of_the_job(app):
    key = interrupt(app, Fee)

    steps = app.queries.transitions("Fee", key)
    (job,) = app.queries.jobs()
    (last,) = (step for step in steps if step["name"] == "refund")
    assert (last["source"], last["target"], last["job_id"]) == (
        "void",
        "refunded",
        job.id,
    )


@pytest.mark.parametrize("form", [Fee, AsyncFee, QuickFee])
def test_it_runs_when_the_body_never_noticed(app, form):
    DURING.append(lambda key: void(app, form, key))
    (key,) = new_fees(app, form)

    app.drain()

    assert [key for key, *_ in TOLD] == [key]
    assert stored(app, form, key).state is S.REFUNDED


def test_of_a_chunk_it_runs_for_the_one_that_was_moved(app):
    keys = new_fees(app, FeeOfMany, 3)
    DURING.append(lambda key: key == keys[0] and void(app, FeeOfMany, key))

    app.drain()

    assert [key for key, *_ in TOLD] == keys[:1]
    states = [stored(app, FeeOfMany, key).state for key in keys]
    assert states == [S.REFUNDED, S.PAID, S.PAID]


def test_of_a_batch_it_runs_for_the_one_that_was_moved(app):
    keys = new_fees(app, AtomicFee, 3)
    claims = app.runner().claim("default", limit=3)
    void(app, AtomicFee, keys[1])
    for claim in claims:
        app.runner().run(claim)

    assert [key for key, *_ in TOLD] == keys[1:2]


def test_its_failure_is_kept_and_the_end_stands(app):
    def fail(session):
        session.flush()
        raise ValueError("the bank is closed")

    AFTER.append(fail)
    key = interrupt(app, Fee)

    fee = stored(app, Fee, key)
    (job,) = app.queries.jobs()
    (attempt,) = app.queries.attempts(job.id)
    assert (fee.state, fee.note, job.state) == (S.VOID, None, JobState.CANCELLED)
    assert (attempt["outcome"], attempt["error_type"], attempt["message"]) == (
        "on_superseded",
        "ValueError",
        "the bank is closed",
    )


def test_it_runs_when_the_worker_died_and_somebody_moved_the_record(app, clock):
    (key,) = new_fees(app, Fee)
    app.runner().claim("default", limit=1)
    void(app, Fee, key)
    clock.advance(LEASE * 10)

    app.runner().rescue()

    assert [key for key, *_ in TOLD] == [key]


# When it does not run -------------------------------------------------------------------------


def test_a_lost_lease_tells_nobody(app, clock):
    new_fees(app, Fee)
    (late,) = app.runner().claim("default", limit=1)
    clock.advance(LEASE * 10)
    app.runner().rescue()

    app.runner().run(late)
    app.drain()

    assert TOLD == []
    assert app.queries.jobs()[0].state is JobState.COMPLETED


def test_a_job_that_was_left_tells_nobody(app):
    (key,) = new_fees(app, Fee)

    void(app, Fee, key)
    app.drain()

    assert TOLD == []
    assert app.queries.jobs()[0].state is JobState.CANCELLED


def test_a_job_that_goes_on_tells_nobody(app):
    (key,) = new_fees(app, Fee)
    (claim,) = app.runner().claim("default", limit=1)
    void(app, Fee, key)
    with app.session() as session:
        session.get_one(Fee, key).reopen()
        session.commit()

    app.runner().run(claim)
    app.drain()

    assert TOLD == []
    assert stored(app, Fee, key).state is S.PAID


def test_a_record_that_is_gone_tells_nobody(app):
    new_fees(app, Fee)
    (claim,) = app.runner().claim("default", limit=1)
    with app.engine.begin() as connection:
        connection.execute(delete(Fee.__table__))

    app.runner().run(claim)

    assert TOLD == []
    assert app.queries.jobs()[0].reason == "superseded: the record is gone"


def test_an_attempt_that_completes_or_fails_tells_nobody(app):
    def fail(_key):
        raise ValueError("no")

    new_fees(app, Fee)
    app.drain()
    DURING.append(fail)
    new_fees(app, Fee)
    app.drain()

    assert TOLD == []


# What cannot work -----------------------------------------------------------------------------


def test_what_cannot_be_called_is_refused():
    with pytest.raises(DefinitionError) as refused:

        class Wrong:
            charge = Trigger.on_demand("wrong.charge")

            @charge.on_superseded
            def give_back(self, reason: str, session: Session) -> None: ...

    assert str(refused.value).splitlines() == [
        "trigger 'wrong.charge': its @on_superseded, 'give_back', takes 'reason' in the place "
        "of the session",
        "  why: the session and the reason are passed by position, in this order",
        "  fix: def give_back(self, session: Session, reason: str) -> None",
    ]


def test_a_hook_that_no_class_would_have_is_refused():
    with pytest.raises(
        DefinitionError, match="its on_superseded is no attribute of a class"
    ):
        Fee.charge.on_superseded(lambda self, session, reason: None)


def test_one_method_may_be_told_of_both():
    class Both(Charged, Base):
        __tablename__ = "both_fees"
        id: Mapped[int] = mapped_column(primary_key=True)
        state: Mapped[S] = state_column(S, initial=S.DUE)
        charge = Trigger.on_demand("both.charge")

        @charge.action(S.DUE, S.PAID)
        def run(self, ctx: JobContext) -> None: ...

        @charge.on_discard
        @charge.on_superseded
        def tell(self, session: Session, reason: str) -> None: ...

    hooks = Both.__statejobs__.triggers["both.charge"].hooks
    assert sorted(hooks) == ["on_discard", "on_superseded"]


def test_two_of_one_trigger_are_refused():
    with pytest.raises(DefinitionError, match="two @on_superseded methods: one, other"):

        class Twice(Charged, Base):
            __tablename__ = "twice_fees"
            id: Mapped[int] = mapped_column(primary_key=True)
            state: Mapped[S] = state_column(S, initial=S.DUE)
            charge = Trigger.on_demand("twice.charge")

            @charge.action(S.DUE, S.PAID)
            def run(self, ctx: JobContext) -> None: ...

            @charge.on_superseded
            def one(self, session: Session, reason: str) -> None: ...

            @charge.on_superseded
            def other(self, session: Session, reason: str) -> None: ...
