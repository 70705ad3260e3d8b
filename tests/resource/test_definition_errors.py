"""Every wrong declaration is refused when its class is made, in words that can be read aloud."""

from collections.abc import Sequence
from datetime import timedelta
from enum import Enum, StrEnum

import pytest
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    AsyncJobContext,
    ChunkContext,
    DefinitionError,
    Domain,
    JobContext,
    StatefulResource,
    Trigger,
    state_column,
    transition,
)
from statejobs.declare.registry import Registry


class BillState(StrEnum):
    OPEN = "open"
    QUEUED = "queued"
    PAYING = "paying"
    PAID = "paid"
    FAILED = "failed"
    OLD = "old"


class ParcelState(StrEnum):
    OPEN = "open"
    SENT = "sent"


B = BillState


def base():
    """A fresh base, whose subclasses have a table and a key."""

    class Root(DeclarativeBase): ...

    class Base(Root):
        __abstract__ = True
        __tablename__ = "bills"
        id: Mapped[int] = mapped_column(primary_key=True)

    return Base


def said(refused):
    """What the refusal says, a part on each line."""
    return str(refused.value).splitlines()


# --- states ----------------------------------------------------------------------------------


def test_misspelt_source_names_the_closest_state():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)

            @transition("opn", B.PAID)
            def pay(self): ...

    assert said(refused) == [
        "Bill.pay: source 'opn' is text, not a member of BillState",
        "  why: the column holds members of BillState only",
        "  fix: did you mean BillState.OPEN?",
    ]


def test_target_of_another_enum_is_named_with_it():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)

            @transition(B.OPEN, ParcelState.SENT)
            def pay(self): ...

    assert said(refused) == [
        "Bill.pay: target 'sent' is a member of ParcelState, not a member of BillState",
        "  why: the column holds members of BillState only",
        "  fix: use a member of BillState: OPEN, QUEUED, PAYING, PAID, FAILED, OLD",
    ]


def test_text_that_is_a_state_must_still_be_the_member():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)

            @transition([B.OPEN, "failed"], B.PAID)
            def pay(self): ...

    assert said(refused) == [
        "Bill.pay: source 'failed' is text, not a member of BillState",
        "  why: the column holds members of BillState only",
        "  fix: did you mean BillState.FAILED?",
    ]


@pytest.mark.parametrize("option", ["during", "failed"])
def test_states_of_an_action_are_checked_like_those_of_a_transition(option):
    states = {"during": B.PAYING, "failed": B.FAILED, option: ParcelState.OPEN}

    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)
            charge = Trigger.on_demand("bill.charge")

            @charge.action(B.OPEN, B.PAID, **states)
            def pay(self, ctx: JobContext) -> None: ...

    assert said(refused) == [
        f"Bill.pay: {option} 'open' is a member of ParcelState, not a member of BillState",
        "  why: the column holds members of BillState only",
        "  fix: did you mean BillState.OPEN?",
    ]


def test_what_is_no_state_at_all_is_named_by_its_type():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)

            @transition(B.OPEN, None)
            def pay(self): ...

    assert said(refused) == [
        "Bill.pay: target None is a NoneType, not a member of BillState",
        "  why: the column holds members of BillState only",
        "  fix: use a member of BillState: OPEN, QUEUED, PAYING, PAID, FAILED, OLD",
    ]


@pytest.mark.parametrize(
    ("option", "given"),
    [("initial", "opened"), ("final", ["opened"]), ("deprecated", ["opened"])],
)
def test_states_of_the_column_are_members_of_its_enum(option, given):
    options = {"initial": B.OPEN, option: given}

    with pytest.raises(DefinitionError) as refused:
        state_column(BillState, **options)

    assert said(refused) == [
        f"state_column(BillState): {option} 'opened' is text, not a member of BillState",
        "  why: the column holds members of BillState only",
        "  fix: did you mean BillState.OPEN?",
    ]


def test_states_are_stored_as_text():
    class Level(Enum):
        LOW = 1
        HIGH = "high"

    with pytest.raises(DefinitionError) as refused:
        state_column(Level, initial=Level.LOW)

    assert said(refused) == [
        "state_column(Level): the value of LOW is not text",
        "  why: states are stored by value, as text, so that databases and people can read them",
        "  fix: make it a StrEnum: class Level(StrEnum): LOW = 'low'",
    ]


def test_an_enum_without_members_has_nowhere_to_start():
    class Nothing(StrEnum): ...

    with pytest.raises(DefinitionError) as refused:
        state_column(Nothing, initial="new")

    assert said(refused) == [
        "state_column(Nothing): the enum has no members",
        "  why: a record must start in one of them",
        "  fix: make it a StrEnum: class Nothing(StrEnum): DRAFT = 'draft'",
    ]


def test_nothing_leaves_a_final_state():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(
                BillState, initial=B.OPEN, final=[B.PAID]
            )

            @transition(B.PAID, B.OPEN)
            def reopen(self): ...

    assert said(refused) == [
        "Bill: transition 'reopen': it leaves 'paid', which is final",
        "  why: a record rests for good in a final state",
        "  fix: take 'paid' out of its sources, or out of final=",
    ]


def test_nothing_enters_a_deprecated_state():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(
                BillState, initial=B.OPEN, deprecated=[B.OLD]
            )

            @transition(B.OPEN, B.OLD)
            def archive(self): ...

    assert said(refused) == [
        "Bill: transition 'archive': it leads to 'old', which is deprecated",
        "  why: a deprecated state is kept for old records and must not get new ones",
        "  fix: choose another state, or take it out of deprecated=",
    ]


def test_records_do_not_start_in_a_deprecated_state():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(
                BillState, initial=B.OLD, deprecated=[B.OLD]
            )

    assert said(refused) == [
        "Bill: the initial state 'old' is deprecated",
        "  why: a deprecated state is kept for old records and must not get new ones",
        "  fix: choose another state, or take it out of deprecated=",
    ]


# --- the state column ------------------------------------------------------------------------


def test_a_resource_has_a_state_column():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()): ...

    assert said(refused) == [
        "Bill: is a StatefulResource without a state column",
        "  why: the machine needs to know its states and where records start",
        "  fix: add `state: Mapped[MyState] = state_column(MyState, initial=MyState.DRAFT)`",
    ]


def test_a_resource_has_one_state_column():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)
            parcel: Mapped[ParcelState] = state_column(
                ParcelState, initial=ParcelState.OPEN
            )

    assert said(refused) == [
        "Bill: has 2 state columns: parcel, state",
        "  why: a resource is one machine",
        "  fix: make the second machine a resource of its own, related to this one",
    ]


# --- names -----------------------------------------------------------------------------------


def test_two_transitions_of_one_name_would_lose_the_first():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)

            @transition(B.OPEN, B.PAID)
            def pay(self): ...

            @transition(B.FAILED, B.PAID)
            def pay(self): ...  # noqa: F811

    assert said(refused) == [
        "Bill.pay: there is already a transition called 'pay'",
        "  why: Python keeps only the last definition of a name, so the first would be lost",
        "  fix: give one of them another name; "
        "one transition may start from several states: @transition([A, B], C)",
    ]


def test_a_transition_is_not_called_like_a_column_above_it():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)
            paid: Mapped[bool] = mapped_column()

            @transition(B.OPEN, B.PAID)
            def paid(self): ...  # noqa: F811

    assert said(refused) == [
        "Bill.paid: there is already a column called 'paid'",
        "  why: Python keeps only the last definition of a name, so the first would be lost",
        "  fix: give one of them another name",
    ]


def test_a_transition_is_not_called_like_an_annotated_column():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)
            paid: Mapped[bool]

            @transition(B.OPEN, B.PAID)
            def paid(self): ...

    assert said(refused) == [
        "Bill.paid: the transition 'paid' has the name of a column",
        "  why: an attribute can be only one of them",
        "  fix: rename the method",
    ]


def test_a_transition_is_not_called_like_the_state():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            status: Mapped[BillState] = state_column(BillState, initial=B.OPEN)

            @transition(B.OPEN, B.PAID)
            def status(self): ...  # noqa: F811

    assert said(refused) == [
        "Bill.status: there is already a column called 'status'",
        "  why: Python keeps only the last definition of a name, so the first would be lost",
        "  fix: give one of them another name",
    ]


def test_an_action_is_not_called_like_its_trigger():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)
            charge = Trigger.on_demand("bill.charge")

            @charge.action(B.OPEN, B.PAID)
            def charge(self, ctx: JobContext) -> None: ...

    assert said(refused) == [
        "Bill.charge: there is already a trigger called 'charge'",
        "  why: Python keeps only the last definition of a name, so the first would be lost",
        "  fix: give one of them another name",
    ]


@pytest.mark.parametrize(
    "name",
    ["available_transitions", "state_version", "state_changed_at", "__machine__"],
)
def test_names_of_ours_are_taken(name):
    with pytest.raises(DefinitionError) as refused:
        type(
            "Bill",
            (StatefulResource, base()),
            {"state": state_column(BillState, initial=B.OPEN), name: None},
        )

    assert said(refused) == [
        f"Bill.{name}: {name!r} is a name of statejobs",
        "  why: every resource gets it from StatefulResource, and the runner relies on it",
        "  fix: give your attribute another name",
    ]


def test_a_mixin_cannot_take_a_name_of_ours_either():
    class Versioned:
        state_version: Mapped[int] = mapped_column()

    with pytest.raises(DefinitionError) as refused:

        class Bill(Versioned, StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)

    assert said(refused) == [
        "Bill.state_version: 'state_version', from Versioned, is a name of statejobs",
        "  why: every resource gets it from StatefulResource, and the runner relies on it",
        "  fix: give your attribute another name",
    ]


def test_a_subclass_cannot_hide_a_transition_behind_something_else():
    class Payable:
        @transition(B.OPEN, B.PAID)
        def pay(self): ...

    with pytest.raises(DefinitionError) as refused:

        class Bill(Payable, StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)

            def pay(self): ...

    assert said(refused) == [
        "Bill.pay: Bill hides the transition 'pay' behind something else",
        "  why: the declared move would still be in the graph, but nothing could fire it",
        "  fix: declare it again with its decorator, or rename the attribute 'pay'",
    ]


# --- options ---------------------------------------------------------------------------------


def here(refused):
    """What the refusal says, without the number of the line."""
    first, *rest = said(refused)
    place, _, what = first.partition(": ")
    return [f"{place.partition(', line ')[0]}: {what}", *rest]


def test_unknown_option_of_a_transition():
    with pytest.raises(DefinitionError) as refused:
        transition(B.OPEN, B.PAID, gaurd=bool)

    assert here(refused) == [
        "transition() in test_definition_errors.py: unknown option 'gaurd'",
        "  why: an option that is silently ignored would not do what it says",
        "  fix: did you mean 'guard'?",
    ]


def test_unknown_option_of_a_trigger():
    with pytest.raises(DefinitionError) as refused:
        Trigger.on_demand("bill.charge", max_attempt=3)

    assert here(refused) == [
        "Trigger.on_demand() in test_definition_errors.py: unknown option 'max_attempt'",
        "  why: an option that is silently ignored would not do what it says",
        "  fix: did you mean 'max_attempts'?",
    ]


def test_unknown_option_of_an_action():
    charge = Trigger.on_demand("bill.charge")

    with pytest.raises(DefinitionError) as refused:
        charge.action(B.OPEN, B.PAID, durring=B.PAYING)

    assert here(refused) == [
        "Trigger.action() in test_definition_errors.py: unknown option 'durring'",
        "  why: an option that is silently ignored would not do what it says",
        "  fix: did you mean 'during'?",
    ]


def test_unknown_option_of_the_state_column():
    with pytest.raises(DefinitionError) as refused:
        state_column(BillState, intial=B.OPEN)

    assert here(refused) == [
        "state_column() in test_definition_errors.py: unknown option 'intial'",
        "  why: an option that is silently ignored would not do what it says",
        "  fix: did you mean 'initial'?",
    ]


def test_options_of_the_column_itself_are_passed_on():
    column = state_column(
        BillState,
        initial=B.OPEN,
        name="stage",
        index=True,
        sqlite_on_conflict_not_null="FAIL",
    )

    assert column.column.name == "stage"


@pytest.mark.parametrize("option", ["nullable", "insert_default", "active_history"])
def test_what_the_state_column_decides_itself_is_not_an_option(option):
    with pytest.raises(DefinitionError) as refused:
        state_column(BillState, initial=B.OPEN, **{option: True})

    assert said(refused) == [
        f"state_column(BillState): {option}= is not yours to set",
        "  why: a state is never null, starts in `initial`, moves by transitions alone, "
        "and is read when one fires",
        "  fix: leave it out",
    ]


# --- triggers and actions --------------------------------------------------------------------


def test_a_trigger_needs_an_action():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)
            charge = Trigger.on_demand("bill.charge")

    assert said(refused) == [
        "Bill.charge: trigger 'bill.charge' has no action",
        "  why: its jobs would have nothing to run",
        "  fix: decorate a method with @charge.action(source, target)",
    ]


def test_a_trigger_has_one_action():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)
            charge = Trigger.on_demand("bill.charge")

            @charge.action(B.OPEN, B.PAID)
            def pay(self, ctx: JobContext) -> None: ...

            @charge.action(B.FAILED, B.PAID)
            def pay_again(self, ctx: JobContext) -> None: ...

    assert said(refused) == [
        "Bill.charge: trigger 'bill.charge' has several actions: pay, pay_again",
        "  why: a job runs one action",
        "  fix: declare a trigger for each action",
    ]


def test_an_action_needs_its_trigger_in_the_same_class():
    charge = Trigger.on_demand("bill.charge")

    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)

            @charge.action(B.OPEN, B.PAID)
            def pay(self, ctx: JobContext) -> None: ...

    assert said(refused) == [
        "Bill.pay: its trigger 'bill.charge' is not an attribute of Bill",
        "  why: an action without its trigger would never run",
        "  fix: declare the trigger in the same class (or mixin), above the action",
    ]


def test_a_transition_runs_a_trigger_of_its_own_class():
    class Parcel:
        dispatch = Trigger.on_demand("parcel.dispatch")

    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)

            @transition(B.OPEN, B.PAID, run_trigger=Parcel.dispatch)
            def pay(self): ...

    assert said(refused) == [
        "Bill.pay: its run_trigger 'parcel.dispatch' is not an attribute of Bill",
        "  why: a job runs on the record whose transition enqueued it",
        "  fix: declare the trigger in this class; "
        "to start work on another record, fire a transition of that record",
    ]


def test_creation_runs_a_trigger_of_its_own_class():
    welcome = Trigger.on_demand("bill.welcome")

    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(
                BillState, initial=B.OPEN, run_trigger=welcome
            )

    assert said(refused) == [
        "Bill.state: its run_trigger 'bill.welcome' is not an attribute of Bill",
        "  why: a job runs on the record whose transition enqueued it",
        "  fix: declare the trigger in this class; "
        "to start work on another record, fire a transition of that record",
    ]


def test_a_trigger_is_given_as_the_object_not_by_name():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)
            charge = Trigger.on_demand("bill.charge")

            @charge.action(B.QUEUED, B.PAID)
            def pay(self, ctx: JobContext) -> None: ...

            @transition(B.OPEN, B.QUEUED, run_trigger="charge")
            def submit(self): ...

    assert said(refused) == [
        "Bill.submit: its run_trigger 'charge' is a str, not a trigger",
        "  why: a name would be looked up only when the transition fires",
        "  fix: give the trigger itself, declared above: run_trigger=charge",
    ]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (lambda b: b["pay"], "run_trigger=charge"),
        (
            lambda b: b["charge"].spec.options,
            "run_trigger=charge or run_trigger=notify",
        ),
        (
            lambda _: "chrage",
            "run_trigger=charge or run_trigger=notify; did you mean 'charge'?",
        ),
        (lambda _: "notify", "run_trigger=notify"),
        (lambda _: True, "run_trigger=charge or run_trigger=notify"),
    ],
    ids=["action", "options", "misspelt", "name", "flag"],
)
def test_advice_for_what_is_no_trigger_names_those_that_are(given, meant):
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)
            charge = Trigger.on_demand("bill.charge")
            notify = Trigger.on_demand("bill.notify")

            @charge.action(B.QUEUED, B.PAID)
            def pay(self, ctx: JobContext) -> None: ...

            submit = transition(B.OPEN, B.QUEUED, run_trigger=given(locals()))(
                lambda self: None
            )

    assert (
        said(refused)[-1] == f"  fix: give the trigger itself, declared above: {meant}"
    )


@pytest.mark.parametrize("wrong", [{"charge"}, frozenset({"charge"})])
def test_several_triggers_are_a_list(wrong):
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)
            charge = Trigger.on_demand("bill.charge")
            notify = Trigger.on_demand("bill.notify")

            @charge.action(B.QUEUED, B.PAID)
            def pay(self, ctx: JobContext) -> None: ...

            @transition(B.OPEN, B.QUEUED, run_trigger=wrong)
            def submit(self): ...

    assert said(refused) == [
        "Bill.submit: its run_trigger is a set",
        "  why: the graph names triggers in their order, and a set has none",
        "  fix: give a list: run_trigger=[charge, notify]",
    ]


def test_a_transition_runs_no_trigger_by_target():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)
            charge = Trigger.on_demand("bill.charge")

            @charge.action(B.QUEUED, B.PAID)
            def pay(self, ctx: JobContext) -> None: ...

            @transition(B.OPEN, B.QUEUED, run_trigger={B.QUEUED: charge})
            def submit(self): ...

    assert said(refused) == [
        "Bill.submit: its run_trigger is a mapping",
        "  why: only an action with several targets runs triggers by target",
        "  fix: give the trigger, or a list: run_trigger=[charge, notify]",
    ]


def test_each_of_several_triggers_is_a_trigger():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)
            charge = Trigger.on_demand("bill.charge")
            notify = Trigger.on_demand("bill.notify")

            @transition(B.OPEN, B.QUEUED, run_trigger=[charge, "notify"])
            def submit(self): ...

    assert (
        said(refused)[0]
        == "Bill.submit: its run_trigger 'notify' is a str, not a trigger"
    )


def test_what_an_action_runs_starts_where_it_lands():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)
            charge = Trigger.on_demand("bill.charge")
            notify = Trigger.on_demand("bill.notify")

            @charge.action(B.OPEN, B.PAID, run_trigger=notify)
            def pay(self, ctx: JobContext) -> None: ...

            @notify.action(B.QUEUED, B.OPEN)
            def tell(self, ctx: JobContext) -> None: ...

    assert said(refused) == [
        "Bill: action 'pay': it runs 'bill.notify' in 'paid', but action 'tell' starts from "
        "'queued'",
        "  why: its job could never run",
        "  fix: add 'paid' to the sources of 'tell', or change the target",
    ]


def test_what_an_action_runs_is_a_trigger_of_its_class():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)
            charge = Trigger.on_demand("bill.charge")

            @charge.action(B.OPEN, B.PAID, run_trigger=Trigger.on_demand("x.tell"))
            def pay(self, ctx: JobContext) -> None: ...

    assert said(refused) == [
        "Bill.pay: its run_trigger 'x.tell' is not an attribute of Bill",
        "  why: a job runs on the record whose transition enqueued it",
        "  fix: declare the trigger in this class; to start work on another record, "
        "fire a transition of that record",
    ]


def test_each_of_several_triggers_leaves_the_others_their_record():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)
            charge = Trigger.on_demand("bill.charge")
            notify = Trigger.on_demand("bill.notify")

            @charge.action(B.QUEUED, B.PAID)
            def pay(self, ctx: JobContext) -> None: ...

            @notify.action(B.QUEUED, B.QUEUED)
            def tell(self, ctx: JobContext) -> None: ...

            @transition(B.OPEN, B.QUEUED, run_trigger=[charge, notify])
            def submit(self): ...

    assert said(refused) == [
        "Bill: transition 'submit': it runs 'bill.charge' and 'bill.notify', but action 'tell' "
        "does not start from 'paid', where 'pay' takes the record",
        "  why: a job of 'bill.notify' that comes to run then would be stale",
        "  fix: add 'paid' to the sources of 'tell', and leave out its target: it then leaves the "
        "record where it is",
    ]


def test_a_guard_is_given_as_the_function_not_by_name():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)

            def has_amount(self): ...

            @transition(B.OPEN, B.PAID, guard="has_amount")
            def pay(self): ...

    assert said(refused) == [
        "Bill.pay: its guard 'has_amount' is a str, which cannot be called",
        "  why: a guard is asked with the record, and answers yes or no",
        "  fix: give the function itself, declared above: guard=has_amount",
    ]


def test_a_guard_is_not_async():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)

            async def has_amount(self): ...

            @transition(B.OPEN, B.PAID, guard=has_amount)
            def pay(self): ...

    assert said(refused) == [
        "Bill.pay: its guard 'has_amount' is async",
        "  why: it is called without `await`, so its body would never run",
        "  fix: make it a `def`",
    ]


def test_a_job_must_be_able_to_start_where_its_transition_leads():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)
            charge = Trigger.on_demand("bill.charge")

            @charge.action(B.QUEUED, B.PAID)
            def pay(self, ctx: JobContext) -> None: ...

            @transition(B.OPEN, B.FAILED, run_trigger=charge)
            def submit(self): ...

    assert said(refused) == [
        "Bill: transition 'submit': it runs 'bill.charge' in 'failed', "
        "but action 'pay' starts from 'queued'",
        "  why: its job could never run",
        "  fix: add 'failed' to the sources of 'pay', or change the target",
    ]


def test_during_needs_failed():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)
            charge = Trigger.on_demand("bill.charge")

            @charge.action(B.OPEN, B.PAID, during=B.PAYING)
            def pay(self, ctx: JobContext) -> None: ...

    assert said(refused) == [
        "Bill: action 'pay' of trigger 'bill.charge': during without failed",
        "  why: when attempts run out, a record in 'paying' has nowhere to land",
        "  fix: add failed=, the state for records whose job gave up",
    ]


def test_a_record_that_is_deleted_rests_in_no_target():
    charge = Trigger.on_demand("bill.charge")

    with pytest.raises(DefinitionError) as refused:
        charge.action(B.OPEN, B.PAID, deletes=True)

    assert said(refused) == [
        "action of trigger 'bill.charge': it has the target 'paid', and deletes its record",
        "  why: a record that is gone rests nowhere",
        "  fix: leave out the target, or deletes=True",
    ]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("during", B.PAYING),
        ("failed", B.FAILED),
        ("run_trigger", Trigger.on_demand("bill.notify")),
    ],
)
def test_an_action_without_a_target_moves_nothing(option, value):
    charge = Trigger.on_demand("bill.charge")

    with pytest.raises(DefinitionError) as refused:
        charge.action(B.OPEN, **{option: value})

    assert said(refused) == [
        f"action of trigger 'bill.charge': it has {option}=, and no target",
        "  why: without a target the record stays where it is, so nothing moves it",
        f"  fix: name the state: action(source, target, {option}=…); or leave {option}= out",
    ]


def test_several_targets_are_not_none():
    charge = Trigger.on_demand("bill.charge")

    with pytest.raises(DefinitionError) as refused:
        charge.action(B.OPEN, ())

    assert said(refused) == [
        "action of trigger 'bill.charge': its targets are none",
        "  why: of several the method returns one",
        "  fix: name the states: action(source, (S.CLEAN, S.INFECTED)); or leave the target out, "
        "so that the record stays where it is",
    ]


def test_an_action_runs_something_only_where_it_leads():
    charge = Trigger.on_demand("bill.charge")
    notify = Trigger.on_demand("bill.notify")

    with pytest.raises(DefinitionError) as refused:
        charge.action(B.OPEN, (B.PAID, B.FAILED), run_trigger={B.OLD: notify})

    assert said(refused) == [
        "action of trigger 'bill.charge': its run_trigger names 'old', to which it does not lead",
        "  why: what follows is enqueued where the record lands",
        "  fix: name one of its targets: 'paid', 'failed'",
    ]


def test_an_action_names_each_target_once():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)
            charge = Trigger.on_demand("bill.charge")

            @charge.action(B.OPEN, (B.PAID, B.PAID))
            def pay(self, ctx: JobContext) -> BillState: ...

    assert said(refused)[0] == "Bill: 2 edges are called 'pay.complete.paid'"


def test_an_action_of_many_records_has_one_target():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)
            charge = Trigger.on_demand("bill.charge", chunk=10)

            @charge.action(B.OPEN, (B.PAID, B.FAILED))
            @staticmethod
            def pay(bills: Sequence["Bill"], ctx: ChunkContext) -> None: ...

    assert said(refused) == [
        "Bill.pay: a chunk action has one target, not 2",
        "  why: it returns once, for many records",
        "  fix: name one, or leave chunk= out",
    ]


def test_no_state_is_called_as_history_calls_a_record_that_is_gone():
    class State(StrEnum):
        OPEN = "open"
        GONE = "(deleted)"

    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[State] = state_column(State, initial=State.OPEN)
            purge = Trigger.on_demand("bill.purge")

            @purge.action(State.OPEN, deletes=True)
            def erase(self, ctx: JobContext) -> None: ...

    assert said(refused) == [
        "Bill: a state is called '(deleted)'",
        "  why: that word is written for a record that is gone",
        "  fix: rename the state",
    ]


# --- keys ------------------------------------------------------------------------------------


def test_a_key_is_used_once_in_a_class():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)
            charge = Trigger.on_demand("bill.charge")
            remind = Trigger.on_demand("bill.remind", aliases=["bill.charge"])

            @charge.action(B.OPEN, B.PAID)
            def pay(self, ctx: JobContext) -> None: ...

            @remind.action(B.OPEN, B.OPEN)
            def send_reminder(self, ctx: JobContext) -> None: ...

    assert said(refused) == [
        "Bill.remind: key 'bill.charge' is used by Bill.charge already",
        "  why: a stored job names its work by the key alone",
        "  fix: give each a key of its own; in a mixin, say '{resource}.…'",
    ]


def test_a_key_is_used_once_in_an_app():
    class Bill(StatefulResource, base()):
        state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)
        charge = Trigger.on_demand("shop.charge")

        @charge.action(B.OPEN, B.PAID)
        def pay(self, ctx: JobContext) -> None: ...

    class Refund(StatefulResource, base()):
        state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)
        charge = Trigger.on_demand("shop.charge")

        @charge.action(B.OPEN, B.PAID)
        def pay(self, ctx: JobContext) -> None: ...

    with pytest.raises(DefinitionError) as refused:
        Registry(
            [Domain("shop", resources=[Bill]), Domain("money", resources=[Refund])]
        )

    assert said(refused) == [
        "Refund.charge: key 'shop.charge' is used by Bill.charge already",
        "  why: a stored job names its work by the key alone",
        "  fix: give each a key of its own; in a mixin, say '{resource}.…'",
    ]


def test_a_resource_name_is_used_once_in_an_app():
    def bill():
        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)

        return Bill

    first, second = bill(), bill()
    first.__module__, second.__module__ = "shop", "archive"

    with pytest.raises(DefinitionError) as refused:
        Registry([Domain("shop", resources=[first, second])])

    assert said(refused) == [
        "archive.Bill: the resource name 'Bill' is used by shop.Bill already",
        "  why: history and jobs name their resource by it",
        "  fix: set __resource__ = 'archive.Bill' on one of them",
    ]


def test_a_domain_lists_resources():
    with pytest.raises(DefinitionError) as refused:
        Domain("shop", resources=[BillState])

    assert said(refused) == [
        "Domain('shop'): <enum 'BillState'> is not a resource",
        "  why: a domain lists classes that declare a machine",
        "  fix: give subclasses of StatefulResource with a state_column",
    ]


def test_a_domain_has_a_name():
    with pytest.raises(DefinitionError) as refused:
        Domain("my shop", resources=[])

    assert said(refused) == [
        "Domain('my shop'): 'my shop' is not a name",
        "  why: it is shown to people and typed on the command line",
        "  fix: use letters, digits, '.', '_' and '-'",
    ]


# --- values of a trigger ---------------------------------------------------------------------


def test_a_key_is_a_stable_name():
    with pytest.raises(DefinitionError) as refused:
        Trigger.on_demand("charge the bill")

    assert said(refused) == [
        "trigger 'charge the bill': key 'charge the bill' is not a stable name",
        "  why: it is stored with every job, and typed by people on the command line",
        "  fix: use at most 200 letters, digits, '.', '_' and '-', like 'order.charge'",
    ]


def test_a_queue_is_a_stable_name():
    with pytest.raises(DefinitionError) as refused:
        Trigger.on_demand("bill.charge", queue="")

    assert said(refused) == [
        "trigger 'bill.charge': queue '' is not a stable name",
        "  why: it is stored with every job, and typed by people on the command line",
        "  fix: use at most 100 letters, digits, '.', '_' and '-', like 'order.charge'",
    ]


def test_a_priority_lies_between_first_and_last():
    with pytest.raises(DefinitionError) as refused:
        Trigger.on_demand("bill.charge", priority=10)

    assert said(refused) == [
        "trigger 'bill.charge': priority=10",
        "  why: priorities order the jobs inside a queue, from 0 (first) to 9 (last)",
        "  fix: give a number from 0 to 9",
    ]


@pytest.mark.parametrize("option", ["max_attempts", "max_crashes"])
def test_a_job_may_be_tried_at_least_once(option):
    with pytest.raises(DefinitionError) as refused:
        Trigger.on_demand("bill.charge", **{option: 0})

    assert said(refused) == [
        f"trigger 'bill.charge': {option}=0",
        "  why: a job needs at least one attempt",
        f"  fix: give {option}=1 or more",
    ]


@pytest.mark.parametrize("most", [0, -1])
def test_a_job_may_snooze_at_least_once(most):
    with pytest.raises(DefinitionError) as refused:
        Trigger.on_demand("bill.charge", max_snoozes=most)

    assert said(refused) == [
        f"trigger 'bill.charge': max_snoozes={most}",
        "  why: it is how often a job may ask to run later",
        "  fix: give max_snoozes=1 or more",
    ]


@pytest.mark.parametrize("most", ["often", 1.5, None, True])
def test_a_number_of_snoozes_is_whole(most):
    with pytest.raises(DefinitionError, match="max_snoozes"):
        Trigger.on_demand("bill.charge", max_snoozes=most)


def test_a_timeout_gives_an_attempt_some_time():
    with pytest.raises(DefinitionError) as refused:
        Trigger.on_demand("bill.charge", timeout=timedelta())

    assert said(refused) == [
        "trigger 'bill.charge': timeout=0:00:00",
        "  why: every attempt would end before it began",
        "  fix: give a positive timedelta, or leave it out",
    ]


def test_a_backoff_is_a_time():
    with pytest.raises(DefinitionError) as refused:
        Trigger.on_demand("bill.charge", backoff=30)

    assert said(refused) == [
        "trigger 'bill.charge': backoff: 30 has no unit; say timedelta(seconds=30)",
        "  why: it says how long to wait before the next attempt",
        "  fix: give a timedelta, a list of them, or a function (attempt, error) -> timedelta",
    ]


# --- the method of an action -----------------------------------------------------------------


def test_an_action_takes_a_context():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)
            charge = Trigger.on_demand("bill.charge")

            @charge.action(B.OPEN, B.PAID)
            def pay(self) -> None: ...

    assert said(refused) == [
        "Bill.pay: the action takes no context",
        "  why: the runner passes a JobContext: session, attempt, idempotency key",
        "  fix: def pay(self, ctx: JobContext) -> None",
    ]


def test_an_async_action_takes_an_async_context():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)
            charge = Trigger.on_demand("bill.charge")

            @charge.action(B.OPEN, B.PAID)
            async def pay(self, ctx: JobContext) -> None: ...

    assert said(refused) == [
        "Bill.pay: an `async def` action takes AsyncJobContext, not JobContext",
        "  why: the session of an async action is an AsyncSession, that of a sync one a Session",
        "  fix: annotate it: ctx: AsyncJobContext",
    ]


def test_a_plain_action_takes_a_plain_context():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)
            charge = Trigger.on_demand("bill.charge")

            @charge.action(B.OPEN, B.PAID)
            def pay(self, ctx: AsyncJobContext) -> None: ...

    assert said(refused) == [
        "Bill.pay: a `def` action takes JobContext, not AsyncJobContext",
        "  why: the session of an async action is an AsyncSession, that of a sync one a Session",
        "  fix: annotate it: ctx: JobContext",
    ]


def test_an_action_names_its_arguments():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)
            charge = Trigger.on_demand("bill.charge")

            @charge.action(B.OPEN, B.PAID)
            def pay(self, ctx: JobContext, *amounts: int) -> None: ...

    assert said(refused) == [
        "Bill.pay: parameter '*amounts: int' is variadic positional",
        "  why: its number of arguments is open, so they cannot be checked when they are given",
        "  fix: declare each argument by name",
    ]


def test_a_transition_names_its_arguments():
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)

            @transition(B.OPEN, B.PAID)
            def pay(self, **notes: str) -> None: ...

    assert said(refused) == [
        "Bill.pay: parameter '**notes: str' is variadic keyword",
        "  why: its names are open, so they cannot be checked when they are given",
        "  fix: declare each argument by name",
    ]


def test_an_argument_that_cannot_be_stored_is_refused_with_its_app():
    class Bill(StatefulResource, base()):
        state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)
        charge = Trigger.on_demand("bill.charge")

        @charge.action(B.OPEN, B.PAID)
        def pay(self, ctx: JobContext, amount: "Money") -> None: ...  # noqa: F821

    with pytest.raises(DefinitionError) as refused:
        Registry([Domain("shop", resources=[Bill])])

    assert said(refused) == [
        "Bill.pay: the annotation 'Money' of 'amount' cannot be resolved",
        "  why: arguments are stored by type (NameError: name 'Money' is not defined)",
        "  fix: define or import the name at module level, outside `if TYPE_CHECKING`",
    ]


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (None, "argument 'amount' is missing"),
        ({"amuont": 1}, "argument 'amuont' is unknown; did you mean 'amount'?"),
        (
            {"amount": "1"},
            "argument 'amount' cannot be stored: ValidationError: Expected `int`, got `str`",
        ),
    ],
    ids=["missing", "unknown", "type"],
)
def test_the_arguments_of_run_trigger_fit_the_action(args, problem):
    class Bill(StatefulResource, base()):
        state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)
        charge = Trigger.on_demand("bill.charge", args=args)

        @charge.action(B.QUEUED, B.PAID)
        def pay(self, ctx: JobContext, amount: int) -> None: ...

        @transition(B.OPEN, B.QUEUED, run_trigger=charge)
        def submit(self): ...

    with pytest.raises(DefinitionError) as refused:
        Registry([Domain("shop", resources=[Bill])])

    assert said(refused) == [
        f"Bill.charge: its args= do not fit the action: {problem}",
        "  why: run_trigger passes these arguments, so every such transition would fail",
        "  fix: give args= what 'pay' takes, or give the parameter a default",
    ]


def test_a_decorated_action_is_seen_through_its_decorator():
    from functools import wraps

    def timed(function):
        @wraps(function)
        def timing(*args, **kwargs):
            return function(*args, **kwargs)

        return timing

    class Bill(StatefulResource, base()):
        state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)
        charge = Trigger.on_demand("bill.charge")

        @charge.action(B.OPEN, B.PAID)
        @timed
        def pay(self, ctx: JobContext, amount: int) -> None: ...

    assert list(Bill.pay.spec.signature.parameters) == ["amount"]


def test_an_argument_without_an_annotation_is_refused_with_its_app():
    class Bill(StatefulResource, base()):
        state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)
        charge = Trigger.on_demand("bill.charge")

        @charge.action(B.OPEN, B.PAID)
        def pay(self, ctx, amount): ...

    with pytest.raises(DefinitionError) as refused:
        Registry([Domain("shop", resources=[Bill])])

    assert said(refused) == [
        "Bill.pay: parameter 'amount' has no annotation",
        "  why: the arguments of a job are stored as JSON and read back by their annotations",
        "  fix: say what it is, for instance amount: int",
    ]


def test_the_mixin_after_the_base_is_refused():
    with pytest.raises(DefinitionError) as refused:

        class Bill(base(), StatefulResource):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)

    assert said(refused) == [
        "Bill: StatefulResource is not the first of its bases",
        "  why: SQLAlchemy mapped the class before its states and transitions could be read",
        "  fix: put StatefulResource first: class Bill(StatefulResource, Base)",
    ]


def test_a_resource_in_two_domains_is_refused():
    class Bill(StatefulResource, base()):
        state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)

    with pytest.raises(DefinitionError) as refused:
        Registry([Domain("shop", resources=[Bill]), Domain("office", resources=[Bill])])

    assert said(refused) == [
        "Bill: is in two domains, 'shop' and 'office'",
        "  why: a resource belongs to the one domain under which people look for it",
        "  fix: leave it out of Domain('office', …)",
    ]


# --- chunks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, -1, True, "many", 2.5])
def test_a_chunk_has_a_size(size):
    with pytest.raises(DefinitionError) as refused:
        Trigger.on_demand("bill.pay", chunk=size)

    assert said(refused) == [
        f"trigger 'bill.pay': chunk={size!r}",
        "  why: it is the most records that one call of the action takes",
        "  fix: give a number from 1 on, or leave it out for an action that takes one record",
    ]


FORM = "@staticmethod def settle(records: Sequence[Bill], ctx: ChunkContext)"


def bill_with(body, *, chunk, **options):
    """Make a class whose action is *body*; return what its refusal says."""
    with pytest.raises(DefinitionError) as refused:

        class Bill(StatefulResource, base()):
            state: Mapped[BillState] = state_column(BillState, initial=B.OPEN)
            pay = Trigger.on_demand("bill.pay", chunk=chunk)
            settle = pay.action(B.OPEN, B.PAID, **options)(body)

    return said(refused)


def test_a_chunk_goes_to_an_action_that_takes_a_list():
    def settle(self, ctx: JobContext): ...

    assert bill_with(settle, chunk=100) == [
        "Bill.settle: trigger 'bill.pay' has chunk=100, and its action takes one record",
        "  why: a call of a chunk action takes many records, none of which is `self`",
        f"  fix: write {FORM}, or leave chunk= out",
    ]


@pytest.mark.parametrize("makes", [staticmethod, lambda body: body])
def test_an_action_that_takes_a_list_has_a_trigger_with_a_chunk(makes):
    def settle(records, ctx: ChunkContext): ...

    assert bill_with(makes(settle), chunk=None) == [
        "Bill.settle: the action takes a list of records, and trigger 'bill.pay' has no chunk=",
        "  why: each of its jobs is run by itself, with its record as `self`",
        "  fix: say Trigger.on_demand('bill.pay', chunk=100), or take self and a JobContext",
    ]


def test_a_chunk_action_takes_records_and_a_context():
    def settle(records, ctx: ChunkContext, currency: str): ...

    assert bill_with(staticmethod(settle), chunk=100) == [
        "Bill.settle: a chunk action takes two parameters, not 3",
        "  why: it is called with a list of records and one context; jobs carry no arguments",
        f"  fix: write {FORM}",
    ]


def test_a_chunk_action_takes_the_context_of_a_chunk():
    def settle(records, ctx: JobContext): ...

    assert bill_with(staticmethod(settle), chunk=100) == [
        "Bill.settle: a chunk action takes ChunkContext, not JobContext",
        "  why: a call of this action runs many jobs, and only a ChunkContext tells of many",
        "  fix: annotate it: ctx: ChunkContext",
    ]


def test_a_chunk_action_is_not_async():
    async def settle(records, ctx: ChunkContext): ...

    assert bill_with(staticmethod(settle), chunk=100) == [
        "Bill.settle: a chunk action cannot be async",
        "  why: its call has one session for all records, a Session",
        "  fix: write it as `def`, or leave chunk= out",
    ]


def test_a_chunk_action_is_not_atomic():
    def settle(records, ctx: ChunkContext): ...

    assert bill_with(staticmethod(settle), chunk=100, atomic=True) == [
        "Bill.settle: a chunk action cannot be atomic",
        "  why: the locks of all records would be held through its body",
        "  fix: leave atomic=True out, or leave chunk= out",
    ]
