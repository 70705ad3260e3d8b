"""What the tests of the resource layer share."""

from contextlib import contextmanager
from enum import StrEnum

from sqlalchemy import event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import JobContext, StatefulResource, Trigger, state_column, transition
from statejobs.store.tables import jobs
from tests.support.ends import ended_in
from tests.support.shop import StoppedClock, read_jobs


class Step(StrEnum):
    """States of the small resources that tests declare themselves."""

    NEW = "new"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    OLD = "old"


def keyed(column, name="Keyed", base=None, *, more=None, **options):
    """A resource with a key of that type, *options* of its column and *more* attributes."""

    class Own(DeclarativeBase): ...

    root = base or Own

    def submit(self) -> None: ...

    def pay(self, ctx: JobContext) -> None: ...

    work = Trigger.on_demand(f"{name.lower()}.work")
    action = work.action(
        [Step.QUEUED, Step.DONE], Step.DONE, during=Step.RUNNING, failed=Step.FAILED
    )
    body = {
        "__tablename__": name.lower(),
        "__module__": __name__,
        "__annotations__": {"state": Mapped[Step]},
        "id": mapped_column(
            column, primary_key=True, **{"autoincrement": False, **options}
        ),
        "state": state_column(Step, initial=Step.NEW),
        "work": work,
        "submit": transition(Step.NEW, Step.QUEUED, run_trigger=work)(submit),
        "pay": action(pay),
        **(more or {}),
    }
    return type(name, (StatefulResource, root), body)


def context(session, record):
    """A context as a test makes one: of the job of *record*."""
    job = next(
        (j for j in read_jobs(session.get_bind()) if j.record_id == str(record.id)),
        None,
    )
    return JobContext(session=session, job=job, now=StoppedClock().now())


def charges(engine):
    """The jobs of orders as committed, oldest first: (id of the order, state)."""
    return [(int(job.record_id), job.state) for job in read_jobs(engine)]


def set_jobs(engine, **values):
    """Write *values* to every job, as a worker or a person might have."""
    if "state" in values:
        values.setdefault("outcome", ended_in(values["state"]))
    with engine.begin() as connection:
        connection.execute(jobs.update().values(**values))


@contextmanager
def statements_on(engine):
    """Yield a function that counts the statements sent since then; an executemany is one."""
    sent = []

    def note(_connection, _cursor, statement, *_):
        sent.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield lambda part: sum(part in statement for statement in sent)
    finally:
        event.remove(engine, "before_cursor_execute", note)
