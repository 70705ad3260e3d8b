# pyright: strict
"""What a typed user does wrong, and who sees it: each checker, and statejobs when it runs."""

from typing import NamedTuple

_TEXT = """
# mypy, pyright, running: wrong keyword
order.submit(cupon="X")
# mypy, pyright, running: keyword-only
order.submit("X")
# mypy, pyright: wrong type
order.submit(coupon=7)
# mypy, pyright, running: missing argument
order.cancel()
# mypy, pyright, running: misspelt transition
order.sumbit()
# mypy, pyright, running: text for a state
order.state = "queued"
# mypy, pyright, running: misspelt question
order.submit.kann()
# mypy, pyright, running: enqueue without a record
Order.process_payment.enqueue(session)
# mypy, pyright, running: enqueue of something else
Order.process_payment.enqueue(session, 42)
# mypy, pyright, running: an argument that the action lacks
Order.process_payment.enqueue(session, order, "x")
# mypy, pyright, running: enqueue without an argument
Order.send_invoice.enqueue(session, order)
# mypy, pyright, running: enqueue with a wrong type
Order.send_invoice.enqueue(session, order, 7)
# mypy, pyright, running: enqueue with a wrong keyword
Order.send_invoice.enqueue(session, order, "x", copies="two")
# mypy, pyright, running: wrong option
Order.send_invoice.options(priority="high")
# mypy, pyright, running: a chunk action, of something else
Order.score_all.enqueue(session, 42)
# mypy, pyright, running: an argument that no chunk action has
Order.score_all.enqueue(session, order, 1)
# mypy, pyright, running: a list of something else
Order.score_all([session], chunk)
# mypy, pyright, running: the context of one job for a call
Order.score_all([order], ctx)
# mypy, pyright, running: a failure without an error
chunk.fail(order)
# mypy, pyright, running: a wait without a unit
chunk.snooze(order, 5)
# mypy, pyright, running: a size that is no number
Trigger.on_demand("order.rate", chunk="many")
# mypy, pyright, running: an action without its context
order.process_payment()
# mypy, pyright, running: another thing for a context
order.process_payment(session)
# mypy, pyright, running: text for a state of the column
state_column(OrderState, initial="draft")
# mypy, pyright, running: a trigger without a key
Trigger.on_demand()
# mypy, pyright, running: an option of another type
Trigger.on_demand("order.ship", max_attempts="five")
# mypy, pyright, running: a misspelt level of the log
Trigger.on_demand("order.ship", log_level="warn")
# mypy, pyright, running: what loads nothing
Trigger.on_demand("order.ship", load=5)
# mypy, pyright, running: a list for meta
Order.send_invoice.options(meta=[1])
# mypy, pyright, running: text for a target
class Wrong(Parent):
    @transition(S.DRAFT, "queued")
    def pay(self) -> None: ...
# mypy, pyright: a call with a wrong type
daily("2026-01-01")
# mypy, pyright, running: a task without its argument
daily.enqueue(session)
# mypy, pyright, running: a task's argument of another type
daily.enqueue(session, "2026-01-01")
# mypy, pyright, running: a task's argument misspelt
daily.enqueue(session, date(2026, 1, 1), copys=2)
# mypy, pyright, running: a task's keyword-only argument by position
daily.enqueue(session, date(2026, 1, 1), 2)
# mypy, pyright, running: a task without a session
daily.enqueue(date(2026, 1, 1))
# mypy, pyright, running: an option of a task's job without a unit
daily.options(delay=5)
# mypy, pyright, running: an option misspelt
daily.options(prio=5)
# mypy, pyright, running: the argument is checked behind options
daily.options(priority=1).enqueue(session, 7)
# mypy, pyright, running: the context is no argument of a job
mail.enqueue(session, ctx, "x")
# mypy, pyright, running: a call without the context
mail("x")
# mypy, pyright, running: an async task's argument of another type
fetch.enqueue(session, 7)
# mypy, pyright, running: a hook without the task's argument
mail.on_discard(lambda session, reason: None)
# mypy, pyright, running: a task without a key
task()
# mypy, pyright, running: a task's option of another type
task("report.x", max_attempts="five")
# mypy, pyright, running: an option of triggers only
task("report.x", args={})
# mypy, pyright, running: a conflict misspelt
Unique(on_conflict="skipp")
# mypy, pyright, running: a field misspelt that a request replaces
Unique(on_conflict="replace", replace=["arg"])
# mypy, pyright, running: the same, of a state
Unique(on_conflict="replace", replace={JobState.QUEUED: ["arg"]})
# mypy, pyright, running: a word for how long that is none
Unique(while_="alive")
# mypy, pyright, running: a period without a unit
Unique(period=60)
# mypy, pyright, running: what makes no job unique
task("report.x", unique=True)
# running: an argument misspelt that requests share
@task("report.x", unique=Unique(by=["dya"]))
def wrong(day: date) -> None: ...
# mypy, pyright, running: a function that is no task
Domain("d", tasks=[tell])
# mypy, pyright, running: a default of another type
Defaults(priority="high")
# mypy, pyright, running: a default that does not exist
Defaults(max_crashes=3)
# mypy, pyright, running: an action that takes the session
class Wrong(Parent):
    charge = Trigger.on_demand("a.b")

    @charge.action(S.DRAFT, S.COMPLETED)
    def pay(self, ctx: Session) -> None: ...
# mypy, pyright, running: an async action that takes the session
class Wrong(Parent):
    charge = Trigger.on_demand("a.b")

    @charge.action(S.DRAFT, S.COMPLETED)
    async def pay(self, ctx: AsyncSession) -> None: ...
# mypy, pyright, running: a plain action with the context of an async one
class Wrong(Parent):
    charge = Trigger.on_demand("a.b")

    @charge.action(S.DRAFT, S.COMPLETED)
    def pay(self, ctx: AsyncJobContext) -> None: ...
# running: an async action with the context of a plain one
class Wrong(Parent):
    charge = Trigger.on_demand("a.b")

    @charge.action(S.DRAFT, S.COMPLETED)
    async def pay(self, ctx: JobContext) -> None: ...
# mypy, pyright, running: an action without a context
class Wrong(Parent):
    charge = Trigger.on_demand("a.b")

    @charge.action(S.DRAFT, S.COMPLETED)
    def pay(self) -> None: ...
# mypy, pyright, running: an argument before the context
class Wrong(Parent):
    charge = Trigger.on_demand("a.b")

    @charge.action(S.DRAFT, S.COMPLETED)
    def pay(self, amount: int, ctx: JobContext) -> None: ...
# mypy, pyright, running: one record for the context of many
class Wrong(Parent):
    charge = Trigger.on_demand("a.b", chunk=10)

    @charge.action(S.DRAFT, S.COMPLETED)
    def pay(self, ctx: ChunkContext) -> None: ...
# running: a list for the context of one job
class Wrong(Parent):
    charge = Trigger.on_demand("a.b", chunk=10)

    @charge.action(S.DRAFT, S.COMPLETED)
    @staticmethod
    def pay(records: "Sequence[Order]", ctx: JobContext) -> None: ...
# running: a class method as an action
class Wrong(Parent):
    charge = Trigger.on_demand("a.b")

    @charge.action(S.DRAFT, S.COMPLETED)
    @classmethod
    def pay(cls, ctx: JobContext) -> None: ...
# running: a generator as an action
class Wrong(Parent):
    charge = Trigger.on_demand("a.b")

    @charge.action(S.DRAFT, S.COMPLETED)
    def pay(self, ctx: JobContext) -> Iterator[int]:
        yield 1
# running: a generator as a transition
class Wrong(Parent):
    @transition(S.DRAFT, S.COMPLETED)
    def pay(self) -> Iterator[int]:
        yield 1
# running: a target of another enum
class Wrong(Parent):
    @transition(S.DRAFT, Other.SENT)
    def pay(self) -> None: ...
# mypy, pyright, running: a set of triggers
class Wrong(Parent):
    @transition(S.DRAFT, S.QUEUED, run_trigger={charge})
    def pay(self) -> None: ...
# mypy, pyright, running: a trigger after a number without a unit
class Wrong(Parent):
    @transition(S.DRAFT, S.QUEUED, run_trigger=charge.after(3))
    def pay(self) -> None: ...
# mypy, pyright, running: a trigger after months
class Wrong(Parent):
    @transition(S.DRAFT, S.QUEUED, run_trigger=charge.after(months=3))
    def pay(self) -> None: ...
# mypy, pyright, running: the method that says when
class Wrong(Parent):
    @transition(S.DRAFT, S.QUEUED, run_trigger=charge.after)
    def pay(self) -> None: ...
# mypy, pyright, running: a trigger by its name on an action
class Wrong(Parent):
    charge = Trigger.on_demand("a.b")

    @charge.action(S.DRAFT, S.COMPLETED, run_trigger="charge")
    def pay(self, ctx: JobContext) -> None: ...
# mypy, pyright, running: a state while it runs, of what stays where it is
class Wrong(Parent):
    charge = Trigger.on_demand("a.b")

    @charge.action(S.DRAFT, during=S.PROCESSING)
    def pay(self, ctx: JobContext) -> None: ...
# mypy, pyright, running: a way that is forgotten
class Wrong(Parent):
    charge = Trigger.on_demand("a.b")

    @charge.action(S.DRAFT, (S.COMPLETED, S.FAILED))
    def pay(self, ctx: JobContext) -> None: ...
# mypy, pyright: a way that is a flag
class Wrong(Parent):
    charge = Trigger.on_demand("a.b")

    @charge.action(S.DRAFT, (S.COMPLETED, S.FAILED))
    async def pay(self, ctx: AsyncJobContext) -> bool:
        return True
# mypy, pyright, running: a trigger by its name at one of several targets
class Wrong(Parent):
    charge = Trigger.on_demand("a.b")

    @charge.action(S.DRAFT, (S.COMPLETED, S.FAILED), run_trigger={S.FAILED: "charge"})
    def pay(self, ctx: JobContext) -> OrderState:
        return S.FAILED
# running: a trigger at a state to which the action does not lead
class Wrong(Parent):
    charge = Trigger.on_demand("a.b")

    @charge.action(S.DRAFT, (S.COMPLETED, S.FAILED), run_trigger={S.QUEUED: charge})
    def pay(self, ctx: JobContext) -> OrderState:
        return S.FAILED
# mypy, pyright, running: triggers by target on a transition
class Wrong(Parent):
    @transition(S.DRAFT, S.QUEUED, run_trigger={S.QUEUED: charge})
    def pay(self) -> None: ...
# mypy, pyright, running: a trigger where the record is gone
class Wrong(Parent):
    charge = Trigger.on_demand("a.b")

    @charge.action(S.DRAFT, deletes=True, run_trigger=charge)
    def pay(self, ctx: JobContext) -> None: ...
# mypy, pyright, running: a trigger by its name in a list
class Wrong(Parent):
    @transition(S.DRAFT, S.QUEUED, run_trigger=[charge, "charge"])
    def pay(self) -> None: ...
# mypy, pyright, running: a trigger by its name
class Wrong(Parent):
    @transition(S.DRAFT, S.QUEUED, run_trigger="charge")
    def pay(self) -> None: ...
# mypy, pyright, running: an async guard
class Wrong(Parent):
    async def has_amount(self) -> bool:
        return True

    @transition(S.DRAFT, S.QUEUED, guard=has_amount)
    def pay(self) -> None: ...
# mypy, pyright, running: a guard that takes more than the record
class Wrong(Parent):
    def has(self, amount: int) -> bool:
        return amount > 0

    @transition(S.DRAFT, S.QUEUED, guard=has)
    def pay(self) -> None: ...
# mypy, pyright, running: a hook without the reason
@charge.on_discard
def tell_less(self: Order, session: Session) -> None: ...
# mypy, pyright, running: an async hook
@charge.on_discard
async def tell_later(self: Order, session: Session, reason: str) -> None: ...
# mypy, pyright, running: a hook with the session of an async action
@charge.on_discard
def tell_async(self: Order, session: AsyncSession, reason: str) -> None: ...
# mypy, pyright, running: a hook with a context
@charge.on_discard
def tell_ctx(self: Order, ctx: JobContext, reason: str) -> None: ...
# mypy, pyright, running: a hook with the error for the reason
@charge.on_discard
def tell_error(self: Order, session: Session, reason: Exception) -> None: ...
# mypy, pyright, running: a hook with session and reason exchanged
@charge.on_discard
def tell_turned(self: Order, reason: str, session: Session) -> None: ...
# mypy, pyright, running: an async hook of a task
@daily.on_discard
async def tell_of(session: Session, reason: str, day: date, *, copies: int = 1) -> None: ...
# running: a plain task with the context of an async one
@task("a.b")
def work(ctx: AsyncJobContext) -> None: ...
# running: an async task with the context of a plain one
@task("a.b")
async def work(ctx: JobContext) -> None: ...
# mypy, pyright, running: arguments of a job by a function of nothing
Trigger.on_demand("a.b", args=lambda: {})
# mypy, pyright, running: a backoff without a unit
Trigger.on_demand("a.b", backoff=30)
# mypy, pyright, running: a backoff by a function of the attempt alone
Trigger.on_demand("a.b", backoff=lambda attempt: timedelta(seconds=1))
# mypy, pyright, running: a permission that takes the record alone
class Wrong(Parent):
    def is_rich(self) -> bool:
        return True

    @transition(S.DRAFT, S.QUEUED, allow=is_rich)
    def pay(self) -> None: ...
# mypy, pyright, running: a permission by its name
class Wrong(Parent):
    @transition(S.DRAFT, S.QUEUED, allow="is_owner")
    def pay(self) -> None: ...
# mypy, pyright, running: a codec that loads without a session
ActorCodec(dump=str, load=lambda text: text)
# mypy, pyright, running: a codec that only writes
ActorCodec(dump=str)
# mypy, pyright, running: another text for every state
class Wrong(Parent):
    @transition("all", S.QUEUED)
    def pay(self) -> None: ...
# mypy, pyright, running: text for a state that may be left
Order.possible_next_states("draft")
# mypy, pyright, running: a change that was not called
class Wrong(Parent):
    @transition(S.DRAFT, S.QUEUED, changes=stamp)
    def pay(self) -> None: ...
# mypy, pyright, running: a change without its context
Change(apply=lambda order: None)
# mypy, pyright, running: the SQL of a guard by a function of nothing
guard(sql=lambda: True)
# mypy, pyright: another type for what is awaited
async def handle() -> None:
    await jobs.retry_job_async("1")
# mypy, pyright: a wrong keyword of what is awaited
async def handle() -> None:
    await jobs.cancel_job_async(1, why="")
# mypy, pyright, running: an outcome that there is not
jobs.select(outcome="stail")
# mypy, pyright: keyword-only, of a query that is awaited
async def handle() -> None:
    await jobs.queries.jobs_async(5)
# mypy, pyright: a session for an engine
async def handle() -> None:
    async with jobs.async_session(session): ...
# mypy, pyright, running: a bulk without a condition
Order.submit.bulk(session)
# mypy, pyright, running: an outcome that no job has
jobs.select(outcome="superceded")
# mypy, pyright, running: outcomes that no job has, of a question
jobs.queries.jobs(outcomes=["stalled"])
# mypy, pyright, running: how often a job may snooze, in words
Trigger.on_demand("a.b", max_snoozes="often")
# mypy, pyright, running: a schedule without a condition
Trigger.scheduled("a.b", cron="@daily")
# mypy, pyright, running: a schedule without a time
Trigger.hybrid("a.b", where=everything)
# mypy, pyright, running: a misspelt policy
Trigger.scheduled("a.b", cron="@daily", where=everything, catch_up="al")
# mypy, pyright, running: a misspelt option of a schedule
Trigger.scheduled("a.b", cron="@daily", where=everything, timezon="UTC")
# mypy, pyright, running: a condition that is no function
Trigger.scheduled("a.b", cron="@daily", where=Order.total > 3)
# mypy, pyright, running: a span without a unit
ago(24)
# mypy, pyright, running: a stale job that does not say why
Stale()
# mypy, pyright: a subscriber of one event, for all
jobs.telemetry.subscribe(count)
# mypy, pyright: a subscriber of one event, for another
jobs.telemetry.subscribe(count, JobStale)
# mypy, pyright, running: the name of an event for its class
jobs.telemetry.subscribe(count, Event.JOB_ENDED)
# mypy, pyright: a subscriber that nobody would await
async def listen(end: JobEnded) -> None: ...
jobs.telemetry.subscribe(listen, JobEnded)
# mypy, pyright: a field that no end has
jobs.telemetry.subscribe(lambda end: print(end.took), JobEnded)
# mypy, pyright, running: an event that is changed
lost = LeasesLost(job_ids=[1])
lost.job_ids = []
"""


class Misuse(NamedTuple):
    """A few lines that are wrong."""

    code: str
    what: str
    seen_by: frozenset[str]


def _misuses() -> list[Misuse]:
    found: list[Misuse] = []
    for block in _TEXT.strip().removeprefix("# ").split("\n# "):
        title, _, code = block.partition("\n")
        seers, _, what = title.partition(": ")
        found.append(Misuse(code, what, frozenset(seers.split(", "))))
    return found


MISUSES = _misuses()
