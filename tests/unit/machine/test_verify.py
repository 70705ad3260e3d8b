from dataclasses import replace
from datetime import timedelta

import pytest

from statejobs.errors import DefinitionError
from statejobs.machine.verify import verify
from statejobs.values.graph import STAYS, Edge, EdgeKind, Promise, TriggerEdges
from statejobs.values.lifecycle import JOB_MACHINE
from statejobs.values.options import TriggerOptions
from tests.support.order_flow import CHARGE, ORDER


def refusal(spec):
    with pytest.raises(DefinitionError) as refused:
        verify(spec)
    return str(refused.value)


def with_edge(**changes):
    """The order, with one more transition."""
    edge = {"name": "pay", "sources": ("draft",), "target": "queued", **changes}
    return replace(ORDER, edges=(*ORDER.edges, Edge(**edge)))


def with_trigger(**changes):
    """The order, with another trigger in place of its own."""
    return replace(ORDER, triggers=(replace(CHARGE, **changes),))


@pytest.mark.parametrize("spec", [ORDER, JOB_MACHINE], ids=["order", "job"])
def test_accepts_the_graphs_that_we_ship(spec):
    verify(spec)


def test_accepts_a_trigger_without_during_and_failed():
    verify(with_trigger(during=None, failed=None))


def test_refuses_an_initial_state_that_is_none():
    assert refusal(replace(ORDER, initial="drafted")) == (
        "Order: no initial state 'drafted'; did you mean 'draft'?\n"
        "  why: creation leads there\n"
        "  fix: use a member of the state enum"
    )


def test_refuses_a_final_state_that_is_none():
    assert refusal(replace(ORDER, final=("complete",))) == (
        "Order: no final state 'complete'; did you mean 'completed'?\n"
        "  why: a record must be able to rest there\n"
        "  fix: use a member of the state enum"
    )


def test_refuses_a_deprecated_state_that_is_none():
    assert refusal(replace(ORDER, deprecated=("old",))) == (
        "Order: no deprecated state 'old'; "
        "known: cancelled, completed, draft, failed, processing, queued\n"
        "  why: a deprecated state stays readable, so it must stay in the enum\n"
        "  fix: use a member of the state enum"
    )


def test_refuses_a_source_that_is_no_state():
    assert refusal(with_edge(sources=("draft", "fialed"))) == (
        "Order: transition 'pay': no source state 'fialed'; did you mean 'failed'?\n"
        "  why: it would fail only when somebody fires it\n"
        "  fix: use a member of the state enum"
    )


def test_refuses_a_target_that_is_no_state():
    assert refusal(with_edge(target="queue")) == (
        "Order: transition 'pay': no target state 'queue'; did you mean 'queued'?\n"
        "  why: it would fail only when somebody fires it\n"
        "  fix: use a member of the state enum"
    )


def test_refuses_an_edge_of_a_job_that_leads_to_no_state():
    assert refusal(with_edge(kind=EdgeKind.COMPLETE, target="queue")) == (
        "Order: complete edge 'pay': no target state 'queue'; did you mean 'queued'?\n"
        "  why: it would fail only when somebody fires it\n"
        "  fix: use a member of the state enum"
    )


@pytest.mark.parametrize(
    ("changes", "role"),
    [
        ({"sources": ("queued", "queueed")}, "source"),
        ({"targets": ("completed", "queueed")}, "target"),
        ({"during": "queueed"}, "during"),
        ({"failed": "queueed"}, "failed"),
    ],
    ids=["source", "target", "during", "failed"],
)
def test_refuses_an_action_that_names_no_state(changes, role):
    assert refusal(with_trigger(**changes)) == (
        f"Order: action 'process_payment' of trigger 'order.charge': no {role} state 'queueed'; "
        "did you mean 'queued'?\n"
        "  why: the record of its job moves along these states\n"
        "  fix: use a member of the state enum"
    )


def test_refuses_two_edges_of_one_name():
    assert refusal(with_edge(name="cancel")) == (
        "Order: 2 edges are called 'cancel'\n"
        "  why: a name must say which way a record goes\n"
        "  fix: give each its own name, or one edge several sources"
    )


def test_refuses_an_edge_called_like_the_state_attribute():
    assert refusal(with_edge(name="state")) == (
        "Order: transition 'state': it is called like the attribute that holds the state\n"
        "  why: one of them would hide the other\n"
        "  fix: rename the transition"
    )


def test_refuses_an_edge_without_sources():
    assert refusal(with_edge(sources=())) == (
        "Order: transition 'pay': it has no source\n"
        "  why: no record could ever take it\n"
        "  fix: name the states that it starts from"
    )


def test_refuses_an_action_without_sources():
    assert refusal(with_trigger(sources=())) == (
        "Order: action 'process_payment' of trigger 'order.charge': it has no source\n"
        "  why: its job would find no record ready\n"
        "  fix: name the states that it starts from"
    )


def test_refuses_an_edge_that_leaves_a_final_state():
    assert refusal(with_edge(sources=("draft", "cancelled"))) == (
        "Order: transition 'pay': it leaves 'cancelled', which is final\n"
        "  why: a record rests for good in a final state\n"
        "  fix: take 'cancelled' out of its sources, or out of final="
    )


def test_refuses_a_deprecated_initial_state():
    assert refusal(replace(ORDER, deprecated=("draft",))) == (
        "Order: the initial state 'draft' is deprecated\n"
        "  why: a deprecated state is kept for old records and must not get new ones\n"
        "  fix: choose another state, or take it out of deprecated="
    )


def test_refuses_an_edge_that_leads_to_a_deprecated_state():
    assert refusal(replace(ORDER, deprecated=("cancelled",))) == (
        "Order: transition 'cancel': it leads to 'cancelled', which is deprecated\n"
        "  why: a deprecated state is kept for old records and must not get new ones\n"
        "  fix: choose another state, or take it out of deprecated="
    )


def test_accepts_a_job_that_returns_its_record_to_a_deprecated_state():
    edges = (
        Edge(name="start", sources=("old",), target="processing", kind=EdgeKind.START),
        Edge(
            name="return", sources=("processing",), target="old", kind=EdgeKind.RETURN
        ),
    )

    verify(
        replace(
            ORDER,
            states=(*ORDER.states, "old"),
            deprecated=("old",),
            edges=ORDER.edges + edges,
        )
    )


def test_refuses_during_without_failed():
    assert refusal(with_trigger(failed=None)) == (
        "Order: action 'process_payment' of trigger 'order.charge': during without failed\n"
        "  why: when attempts run out, a record in 'processing' has nowhere to land\n"
        "  fix: add failed=, the state for records whose job gave up"
    )


def test_refuses_a_transition_that_runs_an_unknown_trigger():
    assert refusal(with_edge(runs=(Promise("order.change"),))) == (
        "Order: transition 'pay': no trigger 'order.change'; did you mean 'order.charge'?\n"
        "  why: there is no action that its job could run\n"
        "  fix: declare the trigger in this class, or correct its key"
    )


def test_refuses_a_creation_that_runs_an_unknown_trigger():
    assert refusal(
        replace(ORDER, initial_runs=(Promise("user.welcome"),), edges=(), triggers=())
    ) == (
        "Order: creation: no trigger 'user.welcome'; there are none\n"
        "  why: there is no action that its job could run\n"
        "  fix: declare the trigger in this class, or correct its key"
    )


def test_refuses_a_transition_whose_job_could_never_run():
    assert refusal(with_edge(target="failed", runs=(Promise("order.charge"),))) == (
        "Order: transition 'pay': it runs 'order.charge' in 'failed', "
        "but action 'process_payment' starts from 'queued'\n"
        "  why: its job could never run\n"
        "  fix: add 'failed' to the sources of 'process_payment', or change the target"
    )


def test_refuses_a_creation_whose_job_could_never_run():
    assert refusal(replace(ORDER, initial_runs=(Promise("order.charge"),))) == (
        "Order: creation: it runs 'order.charge' in 'draft', "
        "but action 'process_payment' starts from 'queued'\n"
        "  why: its job could never run\n"
        "  fix: add 'draft' to the sources of 'process_payment', or change the initial state"
    )


def test_refuses_to_run_a_trigger_twice():
    assert refusal(
        with_edge(target="queued", runs=(Promise(CHARGE.key), Promise(CHARGE.key)))
    ) == (
        "Order: transition 'pay': it runs 'order.charge' 2 times\n"
        "  why: a trigger and a record have one job that is not completed\n"
        "  fix: name it once"
    )


def with_notice(*sources, targets=()):
    """The order, whose payment runs a second trigger that starts from *sources*."""
    notify = TriggerEdges(
        key="order.notify",
        name="notify",
        action="tell",
        sources=sources,
        targets=targets,
        during=None,
        failed=None,
        options=TriggerOptions("order.notify"),
    )
    both = (Promise(CHARGE.key), Promise(notify.key))
    pay = Edge(name="pay", sources=("draft",), target="queued", runs=both)
    charge = replace(CHARGE, sources=("queued", "failed"))
    return replace(ORDER, edges=(*ORDER.edges, pay), triggers=(charge, notify))


@pytest.mark.parametrize(
    ("sources", "lost", "fix"),
    [
        (
            ["queued"],
            "'processing' or 'completed' or 'failed'",
            "'processing' and 'completed' and 'failed'",
        ),
        (["queued", "processing", "failed"], "'completed'", "'completed'"),
        (["queued", "completed", "failed"], "'processing'", "'processing'"),
        (["queued", "processing", "completed"], "'failed'", "'failed'"),
    ],
)
def test_refuses_triggers_of_which_one_takes_the_record_from_the_other(
    sources, lost, fix
):
    assert refusal(with_notice(*sources)) == (
        "Order: transition 'pay': it runs 'order.charge' and 'order.notify', but action 'tell' "
        f"does not start from {lost}, where 'process_payment' takes the record\n"
        "  why: a job of 'order.notify' that comes to run then would be stale\n"
        f"  fix: add {fix} to the sources of 'tell'"
    )


def test_advises_to_leave_out_the_target_of_one_that_moves_the_record_itself():
    assert refusal(
        with_notice("queued", "completed", "failed", targets=("queued",))
    ).endswith(
        "  fix: add 'processing' to the sources of 'tell', and leave out its target: "
        "it then leaves the record where it is"
    )


def test_refuses_a_trigger_that_takes_the_record_from_the_job_of_another():
    sources = ("queued", "processing", "completed", "failed")

    assert refusal(with_notice(*sources, targets=("queued",))) == (
        "Order: transition 'pay': it runs 'order.charge' and 'order.notify', and action 'tell' "
        "starts from 'processing', where 'process_payment' runs\n"
        "  why: it would take the record from under that job, whose work were lost\n"
        "  fix: leave out the target of 'tell': it then leaves the record where it is"
    )


def test_accepts_an_edge_that_stays_in_a_final_state():
    stay = Edge(
        name="tell.complete",
        sources=("queued", "completed"),
        target=STAYS,
        kind=EdgeKind.COMPLETE,
        trigger=CHARGE.key,
    )

    verify(replace(ORDER, edges=(*ORDER.edges, stay)))


def test_accepts_triggers_that_leave_each_other_their_record():
    verify(with_notice("queued", "processing", "completed", "failed"))


@pytest.mark.parametrize("place", [0, 1])
def test_accepts_triggers_of_which_one_is_for_later(place):
    spec = with_notice("queued")
    *others, pay = spec.edges
    runs = list(pay.runs)
    runs[place] = replace(runs[place], delay=timedelta(days=3))

    verify(replace(spec, edges=(*others, replace(pay, runs=tuple(runs)))))


def test_refuses_to_run_a_trigger_beside_one_that_deletes_the_record():
    spec = with_notice("queued", "processing", "completed", "failed")
    charge = replace(spec.triggers[0], targets=("(deleted)",), during=None, failed=None)

    assert refusal(replace(spec, triggers=(charge, spec.triggers[1]))).startswith(
        "Order: transition 'pay': it runs 'order.charge' and 'order.notify', but action 'tell' "
        "does not start from '(deleted)', where 'process_payment' takes the record\n"
    )


def test_keeps_the_parts_of_the_message_as_attributes():
    with pytest.raises(DefinitionError) as refused:
        verify(with_edge(sources=()))

    error = refused.value
    assert (error.where, error.what) == ("Order: transition 'pay'", "it has no source")
    assert (error.why, error.fix) == (
        "no record could ever take it",
        "name the states that it starts from",
    )
