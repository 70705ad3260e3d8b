import gc
import weakref
from contextlib import suppress
from dataclasses import replace
from enum import Enum, StrEnum
from threading import Barrier, Thread

import pytest
import transitions

from statejobs.errors import DefinitionError, NotFoundError
from statejobs.machine.guard import Guard
from statejobs.machine.kernel import Kernel, NotFired
from statejobs.values.graph import Edge, MachineSpec
from statejobs.values.job import JobState
from statejobs.values.lifecycle import JOB_MACHINE
from tests.support.order_flow import ORDER


class State(StrEnum):
    DRAFT = "draft"
    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Order:
    def __init__(self, state="draft", total=1):
        self.state = state
        self.total = total


def has_amount(order):
    """Nothing to charge."""
    return order.total > 0


@pytest.fixture
def kernel():
    return Kernel(
        ORDER,
        members={state.value: state for state in State},
        guards={"has_amount": has_amount},
    )


# ------------------------------------------------------------------ firing


def test_firing_moves_the_subject_to_the_target(kernel):
    order = Order()

    kernel.fire(order, "submit")

    assert order.state is State.QUEUED


def test_firing_returns_what_the_body_returned(kernel):
    assert kernel.fire(Order(), "submit", body=lambda: 42).result == 42


def test_firing_without_a_body_returns_none(kernel):
    assert kernel.fire(Order(), "submit").result is None


def test_the_body_runs_while_the_subject_is_in_its_source(kernel):
    order = Order()

    seen = kernel.fire(order, "submit", body=lambda: order.state).result

    assert seen == "draft"


def test_guards_are_asked_before_the_body_runs():
    trace = []
    kernel = Kernel(
        ORDER, guards={"has_amount": lambda _: trace.append("guard") or True}
    )

    kernel.fire(Order(), "submit", body=lambda: trace.append("body"))

    assert trace == ["guard", "body"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_a_body_that_raises_leaves_the_state_as_it_was(kernel, error):
    def body():
        raise error

    order = Order()

    with pytest.raises(type(error)) as raised:
        kernel.fire(order, "submit", body=body)

    assert raised.value is error
    assert order.state == "draft"


def test_an_error_of_the_library_in_a_body_is_not_taken_for_a_refusal(kernel):
    def body():
        raise transitions.MachineError("the user's own machine")

    with pytest.raises(transitions.MachineError):
        kernel.fire(Order(), "submit", body=body)


def test_a_body_that_moves_the_subject_itself_is_refused(kernel):
    order = Order()

    refused = kernel.fire(order, "submit", body=lambda: kernel.fire(order, "cancel"))

    assert refused.reasons == ("its own body moved it from 'draft' to 'cancelled'.",)
    assert refused.state == "cancelled"
    assert order.state is State.CANCELLED


def test_a_body_may_move_another_subject(kernel):
    first, second = Order(), Order()

    kernel.fire(first, "submit", body=lambda: kernel.fire(second, "cancel"))

    assert (first.state, second.state) == ("queued", "cancelled")


def test_an_edge_back_to_its_source_runs_its_body_and_writes():
    written = []
    loop = MachineSpec(
        name="Loop",
        states=("on",),
        initial="on",
        edges=(Edge(name="touch", sources=("on",), target="on"),),
    )
    kernel = Kernel(loop, write=lambda _, member: written.append(member))

    assert kernel.fire(Order("on"), "touch", body=lambda: "ran").result == "ran"
    assert written == ["on"]


def test_an_unknown_name_is_answered_with_the_closest_one(kernel):
    with pytest.raises(NotFoundError) as missing:
        kernel.fire(Order(), "submitt")

    assert (
        str(missing.value) == "Order: no transition 'submitt'; did you mean 'submit'?"
    )


# ------------------------------------------------------------------ refusals


def test_a_wrong_state_is_refused_with_the_state_it_starts_from(kernel):
    order = Order(State.QUEUED)

    refused = kernel.fire(order, "submit", body=lambda: pytest.fail("ran"))

    assert refused.reasons == ("it is in 'queued', and 'submit' starts from 'draft'.",)
    assert refused.state == "queued"
    assert order.state is State.QUEUED


def test_a_wrong_state_is_refused_with_every_state_it_starts_from(kernel):
    assert kernel.why_not(Order("completed"), "cancel") == (
        "it is in 'completed', and 'cancel' starts from 'draft' or 'queued' or 'failed'.",
    )


def test_a_wrong_state_is_refused_before_any_guard_is_asked():
    kernel = Kernel(ORDER, guards={"has_amount": lambda _: pytest.fail("asked")})

    assert len(kernel.why_not(Order("failed"), "submit")) == 1
    assert isinstance(kernel.fire(Order("failed"), "submit"), NotFired)


def test_a_guard_that_says_no_refuses_with_its_reason(kernel):
    order = Order(total=0)

    refused = kernel.fire(order, "submit", body=lambda: pytest.fail("ran"))

    assert refused.reasons == ("Nothing to charge.",)
    assert order.state == "draft"


def test_every_guard_is_asked_and_each_refusal_is_told():
    guards = {
        "first": Guard(name="first", check=lambda _: False, reason="First."),
        "second": lambda _: True,
        "third": Guard(name="third", check=lambda _: None, reason="Third."),
    }
    kernel = Kernel(_guarded(*guards), guards=guards)

    refused = kernel.fire(Order(), "submit")

    assert refused.reasons == ("First.", "Third.")
    assert kernel.why_not(Order(), "submit") == ("First.", "Third.")


def test_each_guard_is_asked_once_per_firing():
    asked = []
    kernel = Kernel(_guarded("g"), guards={"g": asked.append})

    assert isinstance(kernel.fire(Order(), "submit"), NotFired)

    assert len(asked) == 1


def test_a_source_named_twice_asks_its_guards_once():
    asked = []
    spec = _guarded("g")
    twice = replace(spec.edges[0], sources=("draft", "draft"))

    Kernel(replace(spec, edges=(twice,)), guards={"g": asked.append}).fire(
        Order(), "submit"
    )

    assert len(asked) == 1


def test_a_guard_passes_with_any_true_value():
    kernel = Kernel(_guarded("has_items"), guards={"has_items": lambda _: ["an item"]})

    assert kernel.why_not(Order(), "submit") == ()
    kernel.fire(Order(), "submit")


def test_a_guard_that_raises_propagates(kernel):
    order = Order(total=None)

    with pytest.raises(TypeError):
        kernel.fire(order, "submit")
    with pytest.raises(TypeError):
        kernel.why_not(order, "submit")

    assert order.state == "draft"


def test_guards_are_not_asked_when_they_held_already(kernel):
    order = Order(total=0)

    kernel.fire(order, "submit", skip_guards=True)

    assert order.state is State.QUEUED


def test_skipping_guards_does_not_skip_the_source(kernel):
    assert isinstance(
        kernel.fire(Order("completed"), "submit", skip_guards=True), NotFired
    )


def test_a_guard_that_was_not_given_is_a_definition_error():
    with pytest.raises(DefinitionError) as refused:
        Kernel(ORDER, guards={"has_amounts": has_amount})

    assert str(refused.value) == (
        "Order: transition 'submit': no guard 'has_amount'; did you mean 'has_amounts'?\n"
        "  why: each guard that an edge names must be given to the kernel\n"
        "  fix: pass the guard, or correct its name"
    )


def test_a_graph_that_cannot_work_is_not_compiled():
    with pytest.raises(DefinitionError, match="no initial state 'drafft'"):
        Kernel(replace(ORDER, initial="drafft"), guards={"has_amount": has_amount})


# ------------------------------------------------------------------ asking


def test_available_names_the_transitions_that_could_fire_now(kernel):
    assert kernel.available(Order()) == ("submit", "cancel")
    assert kernel.available(Order(total=0)) == ("cancel",)


def test_available_leaves_the_edges_of_jobs_out(kernel):
    assert kernel.available(Order("queued")) == ("cancel",)
    assert kernel.available(Order("processing")) == ()


def test_the_edges_of_jobs_fire_by_name(kernel):
    order = Order("queued")

    kernel.fire(order, "process_payment.start")
    kernel.fire(order, "process_payment.complete")

    assert order.state is State.COMPLETED


def test_the_life_of_a_job_compiles_and_fires():
    job = Order(JobState.QUEUED)
    kernel = Kernel(JOB_MACHINE, members={state.value: state for state in JobState})

    kernel.fire(job, "claim")
    kernel.fire(job, "fail")

    assert job.state is JobState.FAILED
    assert kernel.available(job) == ("retry", "defer", "cancel")


@pytest.mark.parametrize("state", ORDER.final)
def test_nothing_leaves_a_final_state(kernel, state):
    assert kernel.available(Order(state)) == ()
    for edge in ORDER.edges:
        assert kernel.why_not(Order(state), edge.name)


def test_asking_changes_nothing(kernel):
    order = Order()

    kernel.why_not(order, "submit")
    kernel.available(order)

    assert vars(order) == {"state": "draft", "total": 1}


def test_by_source_lists_the_transitions_that_leave_each_state(kernel):
    assert dict(kernel.by_source) == {
        "draft": ("submit", "cancel"),
        "queued": ("cancel",),
        "processing": (),
        "completed": (),
        "failed": ("retry", "cancel"),
        "cancelled": (),
    }


# ------------------------------------------------------------------ the state attribute


class Plain(Enum):
    ON = "on"
    OFF = "off"


class Text(StrEnum):
    OFF = "off"


SWITCH = MachineSpec(
    name="Switch",
    states=("on", "off"),
    initial="off",
    attribute="position",
    edges=(
        Edge(name="turn_on", sources=("off",), target="on"),
        Edge(name="turn_off", sources=("on",), target="off"),
    ),
)


class Switch:
    def __init__(self, position):
        self.position = position


@pytest.mark.parametrize(
    "held", ["off", Plain.OFF, Text.OFF], ids=["plain text", "Enum", "StrEnum"]
)
@pytest.mark.parametrize(
    "members", [None, {"on": Plain.ON, "off": Plain.OFF}], ids=["no members", "members"]
)
def test_a_state_is_known_by_its_value(held, members):
    kernel = Kernel(SWITCH, members=members)
    switch = Switch(held)

    assert kernel.state_of(switch) == "off"
    kernel.fire(switch, "turn_on")

    assert switch.position is (members["on"] if members else "on")
    assert kernel.state_of(switch) == "on"


def test_state_of_is_a_plain_string(kernel):
    assert type(kernel.state_of(Order(State.DRAFT))) is str


@pytest.mark.parametrize("held", ["gone", None])
def test_a_state_that_is_not_declared_can_do_nothing(kernel, held):
    order = Order(held)

    assert kernel.available(order) == ()
    (reason,) = kernel.fire(order, "submit").reasons
    assert f"it is in '{held}'" in reason


def test_write_stores_the_member_instead_of_the_kernel():
    written = []
    kernel = Kernel(
        SWITCH, members={"on": Plain.ON}, write=lambda _, member: written.append(member)
    )
    switch = Switch("off")

    kernel.fire(switch, "turn_on")

    assert written == [Plain.ON]
    assert switch.position == "off"


@pytest.mark.parametrize("odd", ["=", "*", "", "in transit", "to_b"])
def test_a_state_may_have_any_text(odd):
    spec = MachineSpec(
        name="Odd",
        states=("a", odd),
        initial="a",
        edges=(
            Edge(name="go", sources=("a",), target=odd),
            Edge(name="back", sources=(odd,), target="a"),
        ),
    )
    kernel, subject = Kernel(spec), Order("a")

    kernel.fire(subject, "go")
    assert subject.state == odd
    assert kernel.available(subject) == ("back",)

    kernel.fire(subject, "back")
    assert subject.state == "a"
    assert kernel.available(subject) == ("go",)


# ------------------------------------------------------------------ traps of the library


def test_firing_adds_nothing_to_the_subject(kernel):
    order = Order()

    kernel.fire(order, "submit")

    assert vars(order).keys() == {"state", "total"}
    assert not any(
        hasattr(order, name) for name in ("to_queued", "is_queued", "trigger")
    )


def test_a_loaded_state_is_not_reset(kernel):
    order = Order("failed")

    kernel.available(order)

    assert order.state == "failed"


def test_there_is_no_way_round_the_declared_edges(kernel):
    for state in ORDER.states:
        with pytest.raises(NotFoundError):
            kernel.fire(Order(), f"to_{state}")


def test_a_subject_dies_with_its_last_reference(kernel):
    def use(order):
        kernel.fire(order, "submit")
        kernel.fire(order, "submit")
        with suppress(ZeroDivisionError):
            kernel.fire(order, "cancel", body=lambda: 1 / 0)
        return weakref.ref(order)

    gc.collect()
    gc.disable()
    try:
        reference = use(Order())
        assert reference() is None
    finally:
        gc.enable()


def test_threads_share_a_kernel_without_mixing_their_subjects(kernel):
    rounds, threads = 500, 8
    barrier, wrong = Barrier(threads), []

    def work():
        barrier.wait()
        for _ in range(rounds):
            order = Order()
            bodies = [kernel.fire(order, "submit", body=lambda mine=order: mine).result]
            kernel.fire(order, "process_payment.start")
            discarded = kernel.fire(
                order, "process_payment.discard", body=lambda o=order: o
            )
            bodies.append(discarded.result)
            kernel.fire(order, "cancel")
            if order.state is not State.CANCELLED or any(
                body is not order for body in bodies
            ):
                wrong.append(order)

    workers = [Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert wrong == []


def test_asking_for_unknown_states_leaves_nothing_behind(kernel):
    for number in range(100):
        kernel.why_not(Order(f"state {number}"), "submit")
        assert isinstance(kernel.fire(Order(f"state {number}"), "submit"), NotFired)

    assert set(kernel._machine.events["submit"].transitions) == {"draft"}


def _guarded(*guards):
    edge = Edge(name="submit", sources=("draft",), target="queued", guards=guards)
    return MachineSpec(
        name="Order", states=("draft", "queued"), initial="draft", edges=(edge,)
    )
