# pyright: strict
"""The shop as a typed user writes it. Type checkers read it; nothing runs it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from enum import Enum, StrEnum
from typing import Any, assert_type

from sqlalchemy import true
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    selectinload,
)

from statejobs import (
    ActorCodec,
    AsyncJobContext,
    BulkDryRun,
    BulkResult,
    ChunkContext,
    Defaults,
    Domain,
    DrainResult,
    Enqueued,
    EnqueueResult,
    Event,
    Handled,
    Happening,
    Job,
    JobContext,
    JobOutcome,
    JobState,
    Later,
    MachineSpec,
    Selection,
    StatefulResource,
    StateJobs,
    Trigger,
    Unhandled,
    Unique,
    UtcDateTime,
    acting_as,
    ago,
    everything,
    guard,
    increment,
    next_times,
    override_state,
    set_to,
    stamp,
    state_column,
    task,
    tenant,
    transition,
    utcnow,
)
from statejobs.events import (
    ClockSet,
    DatabaseAway,
    DatabaseBack,
    JobAbandoned,
    JobEnded,
    JobLate,
    JobPostponed,
    JobRescued,
    JobsClaimed,
    JobStale,
    JobStarted,
    KeyHeld,
    LeasesLost,
    RowsPruned,
    WorkerStarted,
    WorkerStopped,
)


class Base(DeclarativeBase): ...


class OrderState(StrEnum):
    DRAFT = "draft"
    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


S = OrderState


class Order(StatefulResource, Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[int]
    coupon: Mapped[str | None]
    charged_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
    state: Mapped[OrderState] = state_column(
        OrderState, initial=S.DRAFT, final=(S.CANCELLED,)
    )

    charge = Trigger.on_demand(
        "order.charge",
        queue="payments",
        max_attempts=5,
        backoff=timedelta(minutes=1),
        load=lambda cls: selectinload("*"),
        meta=lambda order: {"coupon": order.coupon},
    )
    invoice = Trigger.on_demand("order.invoice")
    mark = Trigger.on_demand("order.mark")
    tell = Trigger.on_demand("order.tell")
    mark_lost = Trigger.on_demand("order.lost")
    check = Trigger.on_demand("order.check")
    check_online = Trigger.on_demand("order.check_online")
    score = Trigger.on_demand("order.score", chunk=100)
    purge = Trigger.scheduled(
        "order.purge",
        cron="0 3 * * *",
        where=lambda: Order.coupon.is_(None) & (Order.state_changed_at < ago(days=30)),
        catch_up="none",
        order_by=lambda cls: [cls.total],
        limit=1000,
        queue="low",
        backoff=timedelta(minutes=1),
    )
    chase = Trigger.hybrid("order.chase", cron="@weekly", where=everything)

    @guard(sql=lambda order: order.total > 0)
    def has_amount(self) -> bool:
        """Nothing to charge."""
        return self.total > 0

    @guard(sql=lambda order, actor: order.coupon == actor)
    def is_owner(self, actor: str | None) -> bool:
        return self.coupon == actor

    @transition(S.DRAFT, S.QUEUED, guard=has_amount, run_trigger=charge)
    def submit(self, *, coupon: str | None = None) -> None:
        """Ask for the payment."""
        self.coupon = coupon

    @charge.action(
        S.QUEUED,
        S.COMPLETED,
        during=S.PROCESSING,
        failed=S.FAILED,
        changes=(increment("total"), set_to("coupon", None)),
        run_trigger=[score, mark.after(days=1)],
    )
    def process_payment(self, ctx: JobContext) -> None:
        ctx.session.add(self)
        ctx.progress(1, 2)
        ctx.checkpoint["key"] = ctx.idempotency_key
        self.charged_at = ctx.now

    @invoice.action(S.COMPLETED, S.COMPLETED)
    async def send_invoice(
        self, ctx: AsyncJobContext, to: str, *, copies: int = 1
    ) -> str:
        await ctx.session.flush()
        return to * copies

    @score.action(S.COMPLETED, S.COMPLETED)
    @staticmethod
    def score_all(orders: Sequence["Order"], ctx: ChunkContext) -> None:
        for order in orders:
            order.coupon = ctx.idempotency_key(order)
        ctx.fail(orders[0], "no price")
        ctx.session.flush()

    @check.action(
        S.DRAFT,
        (S.COMPLETED, S.FAILED),
        during=S.PROCESSING,
        failed=S.CANCELLED,
        run_trigger={S.COMPLETED: [score, mark], S.FAILED: mark_lost.after(hours=1)},
    )
    def check_it(self, ctx: JobContext, *, strict: bool = False) -> OrderState:
        return S.FAILED if strict else S.COMPLETED

    @check_online.action(
        S.DRAFT, [S.COMPLETED, S.FAILED], run_trigger={S.FAILED: mark_lost}
    )
    async def check_there(self, ctx: AsyncJobContext) -> OrderState:
        return S.COMPLETED

    @tell.action([S.QUEUED, S.PROCESSING, S.COMPLETED, S.FAILED])
    async def tell_of_it(self, ctx: AsyncJobContext, *, loud: bool = False) -> None: ...

    @mark_lost.action(S.FAILED, S.FAILED)
    def mark_it_lost(self, ctx: JobContext) -> None: ...

    @purge.action([S.FAILED], deletes=True)
    def erase(self, ctx: JobContext) -> None: ...

    @chase.action(S.FAILED)
    def chase_payer(self, ctx: JobContext) -> None: ...

    @mark.action(S.COMPLETED, S.COMPLETED)
    def mark_done(self, ctx: JobContext) -> None: ...

    @transition(S.PROCESSING, S.COMPLETED, run_trigger=[score, mark])
    def complete_by_hand(self) -> None: ...

    @transition(["*", S.PROCESSING], S.CANCELLED)
    def cancel(self, reason: str) -> None: ...

    @transition(
        S.FAILED,
        S.QUEUED,
        changes=stamp("charged_at"),
        allow=[is_owner, lambda _order, actor: actor is not None],
        run_trigger=charge.after(hours=1),
    )
    async def retry(self) -> int:
        """Try the payment again."""
        return 1


@task("report.daily", queue="reports", max_attempts=3)
def daily(day: date, *, copies: int = 1) -> int:
    return copies


@task(
    "report.digest",
    unique=Unique(
        by=["customer", Unique.TENANT],
        period=timedelta(hours=1),
        on_conflict="replace",
        replace={JobState.SCHEDULED: ["args", "run_at"], JobState.FAILED: ["run_at"]},
    ),
)
def digest(customer: int, items: Sequence[int]) -> None: ...


@task("report.mail")
def mail(ctx: JobContext, to: str) -> None:
    ctx.session.add(Order(total=1))


@mail.on_discard
def tell(session: Session, reason: str, to: str) -> None: ...


@task("report.fetch")
async def fetch(ctx: AsyncJobContext, url: str) -> str:
    await ctx.session.flush()
    return url


@task(
    "report.scan",
    paused=True,
    default_actor="system:reports",
    log_level="info",
    log_final_level=50,
    meta={"nightly": True},
    timeout=lambda job: timedelta(minutes=job.attempt),
)
def scan(ctx: JobContext) -> dict[str, int]:
    return {"pages": len(ctx.job.meta)}


@task("report.wait")
async def wait_for(seconds: float) -> None: ...


def declare() -> StateJobs:
    shop = Domain(
        "shop",
        resources=[Order],
        tasks=[daily, mail, fetch, wait_for],
        queues={"payments": 5},
        defaults=Defaults(queue="payments", backoff=timedelta(seconds=5)),
    )
    return StateJobs(
        "sqlite:///shop.db", domains=[shop], queues={"default": 10, "payments": 5}
    )


def write_owner(order: Order) -> str:
    return str(order.id)


def find_owner(session: Session, text: str) -> Order | None:
    return session.get(Order, int(text))


def make_with_actors() -> StateJobs:
    return StateJobs(
        "sqlite:///api.db",
        domains=[],
        actors=ActorCodec(dump=write_owner, load=find_owner),
    )


def use(session: Session) -> None:
    order = Order(total=42)
    session.add(order)
    assert_type(order.state, OrderState)
    assert_type(order.state_version, int)
    assert_type(order.state_changed_at, datetime | None)

    with acting_as(object()), acting_as("user:7"), tenant("acme"):
        assert_type(order.submit(coupon="X"), None)
    order.cancel("changed my mind")
    order.cancel(reason="changed my mind")

    assert_type(order.submit.can(), bool)
    assert_type(order.submit.why_not(), tuple[str, ...])
    assert_type(order.submit.due_at(), datetime | None)
    assert_type(order.available_transitions(), tuple[str, ...])
    assert_type(Order.submit.name, str)
    assert_type(Order.__machine__, MachineSpec)
    with override_state(order, reason="imported"):
        order.state = S.FAILED


def wait_for_days() -> None:
    later = Order.charge.after(timedelta(days=1), hours=2, minutes=0.5)
    assert_type(later, Later)
    assert_type(later.delay, timedelta)


def enqueue(session: Session, order: Order) -> None:
    assert_type(Order.process_payment.enqueue(session, order), EnqueueResult)
    Order.send_invoice.enqueue(session, order, "a@b.example", copies=2)
    later = Order.send_invoice.options(delay=timedelta(days=1), priority=3)
    assert_type(
        later.enqueue_many(session, [order], to="a@b.example"), list[EnqueueResult]
    )


def enqueue_chunks(
    session: Session, orders: Sequence[Order], ctx: ChunkContext
) -> None:
    later = Order.score_all.options(delay=timedelta(days=1))
    assert_type(later.enqueue_many(session, orders), list[EnqueueResult])
    assert_type(Order.score_all(orders, ctx), None)


def enqueue_tasks(session: Session, ctx: JobContext) -> None:
    assert_type(daily(date(2026, 1, 1), copies=2), int)
    assert_type(mail(ctx, to="a@b.example"), None)
    assert_type(daily.enqueue(session, day=date(2026, 1, 1)), EnqueueResult)
    mail.enqueue(session, "a@b.example")
    later = daily.options(delay=timedelta(days=1)).options(priority=3)
    assert_type(later.enqueue(session, date(2026, 1, 1), copies=2), EnqueueResult)
    assert_type(
        daily.enqueue_many(session, [{"day": date(2026, 1, 1)}]), list[EnqueueResult]
    )
    assert_type(daily.key, str)
    found = digest.enqueue(session, 7, [1])
    assert_type(found.outcome is Enqueued.DUPLICATE, bool)


async def wait_for_tasks(session: AsyncSession, ctx: AsyncJobContext) -> None:
    assert_type(await fetch.enqueue_async(session, "x"), EnqueueResult)
    assert_type(await fetch(ctx, "x"), str)
    assert_type(await wait_for(0.5), None)


def bulk(session: Session) -> None:
    values = {"coupon": None, Order.total: Order.total + 1}
    assert_type(
        Order.submit.bulk(session, where=Order.total > 9, values=values), BulkResult
    )
    assert_type(
        Order.submit.bulk(session, where=Order.total > 9, dry_run=True), BulkDryRun
    )
    Order.cancel.bulk(session, where=true(), args={"reason": "spam"}, limit=1000)


async def wait(session: AsyncSession, order: Order, ctx: AsyncJobContext) -> None:
    assert_type(
        await Order.retry.bulk_async(session, where=Order.id.in_([1])), BulkResult
    )
    found = await Order.send_invoice.enqueue_async(session, order, "a@b.example")
    assert_type(found, EnqueueResult)
    assert_type(await order.retry(), int)
    assert_type(await order.send_invoice(ctx, "a@b.example"), str)


async def serve(jobs: StateJobs, engine: AsyncEngine) -> None:
    assert_type(await jobs.drain_async(queues=["payments"]), DrainResult)
    assert_type(await jobs.retry_job_async(1), JobState)
    assert await jobs.wait_async(1, timeout=timedelta(seconds=1)) is None
    assert await jobs.result_async(1) is None
    assert_type(await jobs.cancel_job_async(1, reason="why"), JobState)
    assert_type(await jobs.why_no_retry_async(1), str | None)
    assert_type(await jobs.select(key="a.b").retry_async(), Handled)
    assert_type(await jobs.edit_job_async(1, priority=1), JobState)
    assert_type(await jobs.queries.jobs_async(states=["queued"], limit=3), list[Job])
    assert_type(jobs.queries.jobs(outcomes=["stale", JobOutcome.LEFT]), list[Job])
    assert_type(await jobs.queries.job_async(1), Job | None)
    async with jobs.async_session(engine) as session:
        assert_type(session, AsyncSession)


def select_jobs(jobs: StateJobs, order: Order) -> None:
    selected = jobs.select(
        state=["failed", JobState.DISCARDED],
        outcome=["stale", JobOutcome.LEFT],
        resource=Order,
        record=order,
        older_than=timedelta(days=1),
    )
    assert_type(selected, Selection)
    assert_type(selected.count(), int)
    assert_type(selected.sample(3), list[Job])
    assert_type(selected.cancel("why", on_batch=print), Handled)
    assert_type(selected.delete().refused, tuple[Unhandled, ...])
    assert_type(
        selected.edit(run_at=datetime(2030, 1, 1, tzinfo=UTC), queue="a").locked, int
    )


def run_here(order: Order, ctx: JobContext) -> None:
    assert_type(order.check_it(ctx, strict=True), OrderState)
    assert_type(Order.check_it.targets, tuple[Enum, ...])
    assert_type(Order.check_it.target, Enum | None)
    assert_type(order.process_payment(ctx), None)


def count(end: JobEnded) -> None:
    assert_type(end.job, Job)
    assert_type(end.outcome, str)
    assert_type(end.state, JobState)
    assert_type(end.job_outcome, JobOutcome | None)
    assert_type(end.job.outcome, JobOutcome | None)
    assert_type(end.duration, float | None)
    assert_type(end.reason, str | None)
    assert_type(end.run_at, datetime | None)
    assert_type(end.failure.traceback if end.failure else "", str)
    assert_type(end.is_overtaken, bool)


def watch_jobs(happening: Happening) -> None:
    match happening:
        case JobsClaimed(queue=queue, count=claimed):
            assert_type(queue, str)
            assert_type(claimed, int)
        case JobStarted(job=job) | JobLate(job=job) | JobPostponed(job=job):
            assert_type(job, Job)
        case JobEnded():
            count(happening)
        case JobStale(job_id=job_id, reason=reason):
            assert_type(job_id, int)
            assert_type(reason, str)
        case JobRescued(job=job, state=state):
            assert_type(job, Job)
            assert_type(state, JobState)
        case JobAbandoned():
            assert_type(happening.job, Job)
        case _:
            pass


def watch_workers(happening: Happening) -> None:
    match happening:
        case WorkerStarted(node_id=node) | WorkerStopped(node_id=node):
            assert_type(node, str)
        case KeyHeld(key=key, reason=reason):
            assert_type(key, str)
            assert_type(reason, str)
            assert_type(happening.seconds, float)
        case LeasesLost(job_ids=ids):
            assert_type(ids, Sequence[int])
        case RowsPruned(jobs=jobs, attempts=attempts, history=history):
            assert_type((jobs, attempts, history), tuple[int, int, int])
        case ClockSet(seconds=seconds, offset=offset):
            assert_type((seconds, offset), tuple[float, float])
        case DatabaseAway(error=error):
            assert_type(error, Exception)
        case DatabaseBack():
            pass
        case _:
            pass


def watch_by_name(happening: Happening) -> None:
    assert_type(happening.event, str)
    if happening.event is Event.JOB_ENDED:
        assert_type(happening.fields, Mapping[str, Any])


def watch_key(key: str, seconds: float) -> None: ...


def tell_of_either(event: JobEnded | JobStale) -> None:
    assert_type(event.reason, str | None)


def subscribe(jobs: StateJobs) -> None:
    seen: list[Happening] = []
    end = jobs.telemetry.subscribe(count, JobEnded)
    end()
    jobs.telemetry.subscribe(watch_by_name)
    jobs.telemetry.subscribe(watch_jobs, JobStarted, JobEnded, JobStale)
    jobs.telemetry.subscribe(tell_of_either, JobEnded, JobStale)
    jobs.telemetry.subscribe(lambda held: watch_key(held.key, held.seconds), KeyHeld)
    jobs.telemetry.subscribe(seen.append, DatabaseAway)
    jobs.telemetry.subscribe(print)


def tell_when(now: datetime) -> None:
    assert_type(next_times("0 9 * * 1-5", "Europe/Prague", now, 3), list[datetime])
