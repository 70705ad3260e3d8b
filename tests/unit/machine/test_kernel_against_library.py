"""The lean classes must answer as the stock ones do, for any graph and any events."""

from hypothesis import given
from hypothesis import strategies as st
from transitions import Machine, MachineError

from statejobs.machine.kernel import Kernel, NotFired
from statejobs.values.graph import Edge, MachineSpec

STATES = ("a", "b", "c", "d", "e")
GUARDS = ("g0", "g1", "g2")


class Subject:
    def __init__(self, yes):
        self.state = STATES[0]
        self.yes = yes


@st.composite
def graphs(draw):
    states = STATES[: draw(st.integers(1, len(STATES)))]
    some = st.lists(st.sampled_from(states), min_size=1, unique=True)
    guards = st.lists(st.sampled_from(GUARDS), unique=True)
    edges = tuple(
        Edge(
            name=f"e{number}",
            sources=tuple(draw(some)),
            target=draw(st.sampled_from(states)),
            guards=tuple(draw(guards)),
        )
        for number in range(draw(st.integers(1, 6)))
    )
    return MachineSpec(name="random", states=states, initial=states[0], edges=edges)


@st.composite
def runs(draw):
    spec = draw(graphs())
    event = st.tuples(
        st.sampled_from([edge.name for edge in spec.edges]),
        st.sets(st.sampled_from(GUARDS)),
        st.booleans(),
    )
    return spec, draw(st.lists(event, max_size=30))


@given(runs())
def test_accepts_refuses_and_moves_as_the_stock_machine_does(run):
    spec, events = run
    ours, theirs = _ours(spec), _stock(spec)

    for name, yes, raises in events:
        assert ours(name, yes, raises) == theirs(name, yes, raises)


@given(runs())
def test_why_not_and_available_foretell_what_fire_does(run):
    spec, events = run
    kernel, subject = Kernel(spec, guards=_guards()), Subject(set())

    for name, yes, _ in events:
        subject.yes = yes
        reasons, available = kernel.why_not(subject, name), kernel.available(subject)
        assert _refusals(kernel, subject, name) == reasons
        assert (name in available) == (reasons == ())


@given(runs())
def test_calls_the_hooks_of_the_library_in_its_order(run):
    spec, events = run
    kernel, stock = Kernel(spec, guards=_guards()), _stock_machine(spec)
    ours, theirs = _traced(kernel._machine), _traced(stock)

    mine, other = Subject(set()), Subject(set())
    for name, yes, _ in events:
        mine.yes = other.yes = yes
        if kernel.why_not(mine, name):
            continue
        kernel.fire(mine, name)
        stock.events[name].trigger(other)

    assert ours == theirs


def _refusals(kernel, subject, name):
    fired = kernel.fire(subject, name)
    return fired.reasons if isinstance(fired, NotFired) else ()


def _traced(machine):
    trace = []

    def note(what):
        return lambda event: trace.append((what, event.state.name, event.model.state))

    for event in machine.events.values():
        for hook in ("prepare", "before", "after"):
            event.add_callback(hook, note(f"{hook} {event.name}"))
    for state in machine.states.values():
        for hook in ("enter", "exit"):
            state.add_callback(hook, note(f"{hook} {state.name}"))
    return trace


def _guards():
    return {name: lambda subject, name=name: name in subject.yes for name in GUARDS}


def _ours(spec):
    kernel, subject = Kernel(spec, guards=_guards()), Subject(set())

    def fire(name, yes, raises):
        subject.yes = yes
        ran = []
        try:
            fired = kernel.fire(subject, name, body=lambda: _body(ran, raises))
        except ZeroDivisionError:
            return "raised", ran, subject.state
        how = "refused" if isinstance(fired, NotFired) else "moved"
        return how, ran, subject.state

    return fire


def _stock(spec):
    subject, ran = Subject(set()), []
    machine = _stock_machine(spec)
    machine.before_state_change = lambda event: _body(ran, event.kwargs["raises"])

    def fire(name, yes, raises):
        subject.yes = yes
        ran.clear()
        try:
            moved = machine.events[name].trigger(subject, raises=raises)
        except MachineError:
            return "refused", ran[:], subject.state
        except ZeroDivisionError:
            return "raised", ran[:], subject.state
        return "moved" if moved else "refused", ran[:], subject.state

    return fire


def _stock_machine(spec):
    machine = Machine(
        model=None,
        states=list(spec.states),
        initial=spec.initial,
        auto_transitions=False,
        send_event=True,
    )
    for edge in spec.edges:
        conditions = [
            lambda event, name=name: name in event.model.yes for name in edge.guards
        ]
        machine.add_transition(
            edge.name, list(edge.sources), edge.target, conditions=conditions
        )
    return machine


def _body(ran, raises):
    ran.append("body")
    if raises:
        raise ZeroDivisionError
