"""A class far below the one that declares the machine tells of each thing once."""

from collections import Counter

import pytest
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from statejobs import (
    JobContext,
    ProtectedStateError,
    StatefulResource,
    Trigger,
    override_state,
    state_column,
    transition,
)
from tests.resource.support import Step
from tests.support.shop import read_history_rows, read_jobs, shop_engine

DEPTH = 5


def family(*, is_joined):
    """Return classes of which each is below the one before."""

    class Base(DeclarativeBase): ...

    class Level0(StatefulResource, Base):
        __tablename__ = "levels"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "0"}  # noqa: RUF012
        greet = Trigger.on_demand("level.greet")
        state: Mapped[Step] = state_column(Step, initial=Step.NEW, run_trigger=greet)

        @greet.action(Step.NEW, Step.DONE)
        def say(self, ctx: JobContext) -> None: ...

        @transition(Step.NEW, Step.OLD)
        def age(self) -> None: ...

    classes = [Level0]
    for level in range(1, DEPTH):
        declared = {"__mapper_args__": {"polymorphic_identity": str(level)}}
        if is_joined and level % 2:
            parent = "levels" if level == 1 else f"levels{level - 2}"
            declared["__tablename__"] = f"levels{level}"
            declared["__annotations__"] = {"id": Mapped[int]}
            declared["id"] = mapped_column(ForeignKey(f"{parent}.id"), primary_key=True)
        if level == 3:  # below an abstract class
            middle = type("Middle", (classes[-1],), {"__abstract__": True})
            classes.append(type("Level3", (middle,), declared))
            continue
        classes.append(type(f"Level{level}", (classes[-1],), declared))
    return Base, classes


@pytest.fixture(params=[False, True], ids=["single", "joined"])
def deep(request, database_url):
    base, classes = family(is_joined=request.param)
    with shop_engine(database_url, base) as engine, Session(engine) as session:
        yield engine, session, classes


def told(engine):
    return [(row.record_id, row.name, row.version) for row in read_history_rows(engine)]


def test_a_record_is_created_once_at_each_depth(deep):
    engine, session, classes = deep
    for key, cls in enumerate(classes, start=1):
        session.add(cls(id=key))
        session.commit()

    keys = [str(key) for key in range(1, DEPTH + 1)]
    assert told(engine) == [(key, "create", 0) for key in keys]
    assert [job.record_id for job in read_jobs(engine)] == keys
    assert [session.get(classes[0], int(key)).state_version for key in keys] == [
        0
    ] * DEPTH


def test_an_override_is_one_step_at_each_depth(deep):
    engine, session, classes = deep
    for key, cls in enumerate(classes, start=1):
        session.add(record := cls(id=key))
        with override_state(record, reason="test"):
            record.state = Step.DONE
    session.commit()

    assert Counter(name for _, name, _ in told(engine)) == {
        "create": DEPTH,
        "override": DEPTH,
    }


def test_a_record_deleted_at_the_bottom_takes_its_job_along(deep):
    engine, session, classes = deep
    session.add(record := classes[-1](id=1))
    session.commit()
    session.delete(record)
    session.commit()

    assert [job.state for job in read_jobs(engine)] == ["cancelled"]


def test_the_machine_of_the_root_guards_the_state_at_the_bottom(deep):
    _, session, classes = deep
    session.add(record := classes[-1](id=1))
    session.commit()

    with pytest.raises(ProtectedStateError):
        record.state = Step.DONE
    with pytest.raises(ProtectedStateError):
        record.state_version = 7
    with pytest.raises(ProtectedStateError):
        del record.state
    with pytest.raises(ProtectedStateError):
        classes[-1](state=Step.DONE)
