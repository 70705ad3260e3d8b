"""`after=`: what it is refused for, what it adds to a class, and when it says that it fires."""

from datetime import timedelta
from types import MappingProxyType

import pytest
from sqlalchemy import String, inspect
from sqlalchemy.orm import DeclarativeBase, mapped_column

from statejobs import (
    DefinitionError,
    Domain,
    JobContext,
    SchemaError,
    StatefulResource,
    Trigger,
    WrongValueError,
    mermaid,
    state_column,
    transition,
)
from statejobs.declare.registry import Registry
from statejobs.store.timeout_index import check_indexes
from tests.resource.support import Step
from tests.support.tickets import (
    DAY,
    HOUR,
    NOON,
    Case,
    Complaint,
    Lawsuit,
    Ticket,
    TicketState,
    office,
)

S = TicketState
NEXT = timedelta(hours=1)


def declare(body=lambda _self: None, *, source=Step.NEW, final=(Step.DONE,), **more):
    """A class whose transition `expire` has *body*."""

    class Own(DeclarativeBase): ...

    body.__name__, body.__qualname__ = "expire", "Own.expire"
    options = {"after": NEXT, **more}
    attributes = {
        "__tablename__": "own",
        "id": mapped_column(String, primary_key=True),
        "state": state_column(Step, initial=Step.NEW, final=final),
        "expire": transition(source, options.pop("target", Step.OLD), **options)(body),
    }
    return type("Own", (StatefulResource, Own), attributes)


@pytest.mark.parametrize("after", [timedelta(), timedelta(hours=-1)])
def test_a_time_that_is_over_at_once_is_refused(after):
    with pytest.raises(DefinitionError) as caught:
        declare(after=after)

    assert str(caught.value) == (
        f"Own.expire: after={after}\n"
        "  why: no record would rest in a source of it\n"
        "  fix: give a positive timedelta, or leave it out; what follows at once is a "
        "run_trigger"
    )


def test_a_number_is_no_time():
    with pytest.raises(WrongValueError, match=r"say timedelta\(seconds=60\)"):
        declare(after=60)


def test_every_state_would_time_out_unseen():
    with pytest.raises(DefinitionError, match="name the states that time out"):
        declare(source="*")


def test_a_move_that_stays_would_fire_again_and_again():
    with pytest.raises(DefinitionError, match="take 'new' out of its sources"):
        declare(target=Step.NEW)


def test_nothing_leaves_a_final_state():
    with pytest.raises(DefinitionError, match="after= from 'done', which is final"):
        declare(source=[Step.NEW, Step.DONE])


def test_a_body_is_called_without_arguments():
    with pytest.raises(DefinitionError, match="a body that requires 'reason'"):
        declare(lambda _self, reason: None)

    assert declare(lambda _self, reason="": None).expire.spec.after == NEXT


def test_a_coroutine_has_no_loop():
    async def body(_self): ...

    with pytest.raises(DefinitionError, match="after= of an `async def`"):
        declare(body)


def test_what_a_job_works_on_times_out_by_its_trigger():
    class Own(DeclarativeBase): ...

    with pytest.raises(DefinitionError, match="timeout= of trigger"):

        class Sale(StatefulResource, Own):
            __tablename__ = "sales"
            id = mapped_column(String, primary_key=True)
            state = state_column(Step, initial=Step.NEW)
            charge = Trigger.on_demand("own.charge")

            @transition(Step.RUNNING, Step.OLD, after=NEXT)
            def expire(self) -> None: ...

            @charge.action(Step.NEW, Step.DONE, during=Step.RUNNING, failed=Step.FAILED)
            def run(self, ctx: JobContext) -> None: ...


def test_the_graph_has_it():
    edge = Ticket.__machine__.edge("ask_again")

    assert edge.after == 2 * HOUR
    assert "asked --> open : ask_again after 2 h" in mermaid(Ticket.__machine__)


def test_its_index_is_that_of_the_table_where_the_states_are():
    names = {
        kind: [index.name for index in kind.__table__.indexes]
        for kind in (Ticket, Case, Complaint, Lawsuit)
    }

    assert names == {
        Ticket: ["ix_tickets_timeouts"],
        Case: ["ix_cases_timeouts"],
        Complaint: ["ix_cases_timeouts"],
        Lawsuit: [],
    }
    (index,) = Ticket.__table__.indexes
    assert index.columns.keys() == ["state", "state_changed_at", "id"]


def test_a_table_without_timeouts_has_none():
    class Own(DeclarativeBase): ...

    class Sale(StatefulResource, Own):
        __tablename__ = "sales"
        id = mapped_column(String, primary_key=True)
        kind = mapped_column(String)
        state = state_column(Step, initial=Step.NEW)
        __mapper_args__ = MappingProxyType({"polymorphic_on": "kind"})

        @transition(Step.NEW, Step.OLD)
        def close(self) -> None: ...

    assert not Sale.__table__.indexes

    class Auction(Sale):
        __mapper_args__ = MappingProxyType({"polymorphic_identity": "auction"})

        @transition(Step.NEW, Step.OLD, after=NEXT)
        def expire(self) -> None: ...

    assert [index.name for index in Sale.__table__.indexes] == ["ix_sales_timeouts"]


def test_a_long_name_is_cut():
    class Own(DeclarativeBase): ...

    class Long(StatefulResource, Own):
        __tablename__ = "t" * 60
        id = mapped_column(String, primary_key=True)
        state = state_column(Step, initial=Step.NEW)

        @transition(Step.NEW, Step.OLD, after=NEXT)
        def expire(self) -> None: ...

    (index,) = Long.__table__.indexes
    assert len(index.name) == 63


def test_create_all_makes_the_index_of_a_table_that_is_there(database_url):
    with office(database_url) as app:
        with app.engine.begin() as connection:
            connection.exec_driver_sql("DROP INDEX ix_tickets_timeouts")

        with pytest.raises(SchemaError, match="lacks the index ix_tickets_timeouts"):
            check_indexes(app.engine, app.registry.tables)
        app.create_all()
        check_indexes(app.engine, app.registry.tables)

        found = inspect(app.engine).get_indexes("tickets")
        assert [index["name"] for index in found] == ["ix_tickets_timeouts"]


def test_a_subclass_times_out_with_its_base_unless_it_says_otherwise():
    domain = Domain("office", resources=[Ticket, Case])

    keys = [timeout.key for timeout in Registry([domain]).timeouts]

    assert keys == [
        "timeout:Ticket.expire",
        "timeout:Ticket.ask_again",
        "timeout:Ticket.retry_later",
        "timeout:Case.hold",
        "timeout:Case.expire",
        "timeout:Case.Complaint.ask",
        "timeout:Case.Lawsuit.begin",
    ]


def test_it_says_when_it_fires(database_url):
    with office(database_url) as app, app.session() as session:
        ticket = Ticket(id=1)
        session.add(ticket)
        assert ticket.expire.due_at() is None
        session.commit()

        assert ticket.expire.due_at() == NOON + DAY
        assert ticket.ask_again.due_at() is None
        assert ticket.submit.due_at() is None

        app.sources.clock.advance(HOUR)
        ticket.hold()
        assert ticket.expire.due_at() is None
        session.commit()
        assert ticket.expire.due_at() == NOON + HOUR + DAY
