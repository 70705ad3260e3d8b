"""A claim goes from held to settled, by the ways that there are and by no other."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from statejobs.runner.port import Claim, Phase

WAYS = {
    (Phase.HELD, Phase.FINISHING),
    (Phase.FINISHING, Phase.FINISHING),
    (Phase.FINISHING, Phase.HELD),
    (Phase.FINISHING, Phase.SETTLED),
}


def claim():
    """A claim of a job that does not matter."""
    return Claim(job=None, subject=None, policy=None, work=None, began=0)


@given(st.lists(st.sampled_from(Phase)))
def test_it_goes_only_where_a_way_leads(asked):
    held = claim()
    for phase in asked:
        before = held.phase

        assert held.advance(phase) == ((before, phase) in WAYS)

        assert held.phase is (phase if (before, phase) in WAYS else before)


@given(st.lists(st.sampled_from(Phase)))
def test_what_is_settled_stays_so(asked):
    done = claim()
    done.advance(Phase.FINISHING)
    done.advance(Phase.SETTLED)

    assert not any(done.advance(phase) for phase in asked)
    assert done.is_settled


def test_what_is_lost_begins_no_finish_and_ends_one_that_began():
    waiting, finishing = claim(), claim()
    finishing.advance(Phase.FINISHING)
    waiting.is_lost = finishing.is_lost = True

    assert not waiting.advance(Phase.FINISHING)
    assert finishing.advance(Phase.SETTLED)


def test_of_many_that_settle_it_one_does():
    held, won = claim(), []
    held.advance(Phase.FINISHING)
    barrier = threading.Barrier(8)

    def settle():
        barrier.wait()
        won.append(held.advance(Phase.SETTLED))

    threads = [threading.Thread(target=settle) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert won.count(True) == 1
