from dataclasses import replace
from itertools import pairwise

import pytest

from statejobs.machine.diagram import mermaid, table
from statejobs.values.graph import Edge, MachineSpec, Promise
from statejobs.values.lifecycle import JOB_MACHINE
from tests.support.order_flow import ORDER

ORDER_DIAGRAM = """\
stateDiagram-v2
    draft
    queued
    processing
    completed
    failed
    cancelled
    [*] --> draft
    draft --> queued : submit ⚙ order.charge
    queued --> processing : start process_payment
    processing --> completed : complete process_payment
    processing --> queued : retry process_payment
    processing --> failed : discard process_payment
    failed --> queued : retry ⚙ order.charge
    draft --> cancelled : cancel
    queued --> cancelled : cancel
    failed --> cancelled : cancel
    completed --> [*]
    cancelled --> [*]
"""


def chain(*states, label="go"):
    """A graph that leads from each state to the next."""
    edges = [
        Edge(name=f"{label}{number}", sources=(source,), target=target)
        for number, (source, target) in enumerate(pairwise(states))
    ]
    return MachineSpec(
        name="chain", states=states, initial=states[0], edges=tuple(edges)
    )


def test_draws_the_order_flow():
    assert mermaid(ORDER) == ORDER_DIAGRAM


@pytest.mark.parametrize("spec", [ORDER, JOB_MACHINE], ids=["order", "job"])
def test_draws_every_state_and_every_edge(spec):
    lines = mermaid(spec).splitlines()

    for state in spec.states:
        assert f"    {state}" in lines
    for edge in spec.transitions:
        for source in edge.sources:
            arrow = f"    {source} --> {edge.target} : "
            assert any(line.startswith(arrow) and edge.name in line for line in lines)


def test_draws_one_arrow_for_all_edges_between_two_states():
    arrows = [
        line
        for line in mermaid(JOB_MACHINE).splitlines()
        if "processing --> queued" in line
    ]

    assert arrows == ["    processing --> queued : release, rescue, run_again"]


def test_shows_how_many_records_are_in_each_state():
    text = mermaid(ORDER, counts={"queued": 12})

    assert '    state "queued (12)" as queued\n' in text
    assert '    state "draft (0)" as draft\n' in text


def test_shows_which_states_are_deprecated():
    spec = replace(ORDER, states=(*ORDER.states, "old"), deprecated=("old",))

    assert '    state "old (deprecated)" as old\n' in mermaid(spec)
    assert '    state "old (deprecated, 3)" as old\n' in mermaid(
        spec, counts={"old": 3}
    )


def test_shows_the_trigger_that_creation_runs():
    assert "    [*] --> draft : ⚙ user.welcome\n" in mermaid(
        replace(ORDER, initial_runs=(Promise("user.welcome"),))
    )


def test_shows_each_of_several_triggers_that_are_run():
    both = (Promise("order.charge"), Promise("order.notify"))
    pay = Edge(name="pay", sources=("draft",), target="queued", runs=both)

    assert "    draft --> queued : pay ⚙ order.charge ⚙ order.notify\n" in mermaid(
        replace(ORDER, edges=(pay,))
    )
    assert table(replace(ORDER, edges=(pay,))) == [
        ("pay", "draft", "queued", "order.charge, order.notify")
    ]


@pytest.mark.parametrize(
    ("state", "line"),
    [
        ("in transit", 'state "in transit" as s_in_transit'),
        ("in-transit", 'state "in-transit" as s_in_transit'),
        ('say "hi"', 'state "say #34;hi#34;" as s_say_hi'),
        ("end", 'state "end" as s_end'),
        ("State", 'state "State" as s_State'),
        ("x: 50%", 'state "x#58; 50#37;" as s_x_50'),
        ("a\nb", 'state "a b" as s_a_b'),
        ("über", 'state "über" as s_ber'),
        ("#1;", 'state "#35;1#59;" as s_1'),
        ("[*]", 'state "#91;*#93;" as s_'),
        ("", 'state " " as s_'),
    ],
)
def test_writes_any_state_in_a_way_that_mermaid_reads(state, line):
    text = mermaid(chain(state, "done"))

    assert f"    {line}\n" in text
    assert f"    {line.rpartition(' as ')[2]} --> done : go0\n" in text


def test_states_that_look_alike_stay_apart():
    assert mermaid(chain("a b", "a-b", "s_a_b", "a.b")) == (
        "stateDiagram-v2\n"
        '    state "a b" as s_a_b_2\n'
        '    state "a-b" as s_a_b_3\n'
        "    s_a_b\n"
        '    state "a.b" as s_a_b_4\n'
        "    [*] --> s_a_b_2\n"
        "    s_a_b_2 --> s_a_b_3 : go0\n"
        "    s_a_b_3 --> s_a_b : go1\n"
        "    s_a_b --> s_a_b_4 : go2\n"
    )


def test_labels_cannot_break_a_line():
    assert "a --> b : x#58;#59; #37;#37; y0\n" in mermaid(
        chain("a", "b", label="x:;\n%% y")
    )


def test_lists_name_sources_target_and_trigger_of_each_edge():
    assert table(ORDER) == [
        ("submit", "draft", "queued", "order.charge"),
        ("start process_payment", "queued", "processing", ""),
        ("complete process_payment", "processing", "completed", ""),
        ("retry process_payment", "processing", "queued", ""),
        ("discard process_payment", "processing", "failed", ""),
        ("retry", "failed", "queued", "order.charge"),
        ("cancel", "draft, queued, failed", "cancelled", ""),
    ]
