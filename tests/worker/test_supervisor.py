"""The supervisor without processes: its clock is moved by hand."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statejobs.runner.supervisor import (
    RECYCLED,
    UNOPENED,
    UNUSABLE,
    Order,
    Supervisor,
    pause_before_replacement,
)


class FakeChild:
    """A child that does what the test says."""

    def __init__(self, pid, *, serves=True, grace=5.0):
        self.pid, self.serves, self.seconds = pid, serves, grace
        self.code = None
        self.told = []
        self.is_killed = False

    def exit_code(self):
        return self.code

    def grace(self):
        return self.seconds if self.serves else None

    def tell(self, order):
        self.told.append(order)

    def kill(self):
        self.is_killed, self.code = True, -9


class World:
    """A supervisor, its children, and the time."""

    def __init__(self, processes=1, *, serves=True):
        self.now, self.children, self.serves = 1000.0, [], serves
        self.supervisor = Supervisor(
            self.spawn,
            processes=processes,
            monotonic=lambda: self.now,
            wait=self.wait,
            rng=Random(1),
        )

    def spawn(self, number):
        self.children.append(FakeChild(100 + len(self.children), serves=self.serves))
        return self.children[-1]

    def wait(self, seconds):
        self.now += seconds

    def pass_time(self, seconds):
        """Let the supervisor look as often as it wants to, for so long."""
        until = self.now + seconds
        while self.now < until and self.supervisor.run_once():
            self.now = min(until, self.now + self.supervisor.seconds_to_wait())
        return self.supervisor.run_once()


@given(deaths=st.integers(1, 10_000), seed=st.integers())
def test_the_pause_doubles_up_to_half_a_minute(deaths, seed):
    pause = pause_before_replacement(deaths, Random(seed))

    least = min(0.5 * 2.0 ** min(deaths - 1, 60), 30.0)
    assert least <= pause <= least * 1.25


@given(lives=st.lists(st.floats(0, 50), min_size=1, max_size=15))
def test_a_child_that_keeps_dying_is_never_replaced_hotly(lives):
    world = World()

    for number, life in enumerate(lives, start=1):
        world.pass_time(40)  # longer than any pause
        assert len(world.children) == number
        world.pass_time(life)
        world.children[-1].code = 1
        world.supervisor.run_once()
        world.pass_time(0.49)

        assert len(world.children) == number


def test_a_dead_child_is_replaced_after_a_pause():
    world = World()
    world.pass_time(3)

    world.children[0].code = -9
    world.pass_time(0.4)
    assert len(world.children) == 1
    world.pass_time(0.3)

    assert len(world.children) == 2
    assert world.supervisor.tally.died == 1


def test_a_minute_of_life_makes_earlier_deaths_forgotten():
    world = World()
    for _ in range(6):
        world.pass_time(45)
        world.children[-1].code = 1
    world.pass_time(120)

    world.children[-1].code = 1
    world.pass_time(0.7)

    assert world.children[-1].code is None


def test_a_child_that_recycles_itself_is_replaced_at_once():
    world = World()
    world.pass_time(5)

    world.children[0].code = RECYCLED
    world.supervisor.run_once()

    assert len(world.children) == 2
    assert (world.supervisor.tally.recycled, world.supervisor.tally.died) == (1, 0)


def test_a_child_that_recycles_itself_all_the_time_is_held_back():
    world = World()

    for _ in range(20):
        world.pass_time(0.2)
        world.children[-1].code = RECYCLED
    world.supervisor.run_once()

    assert len(world.children) < 5


def test_the_first_child_goes_ahead_until_it_serves():
    world = World(processes=3, serves=False)
    world.pass_time(2)
    assert len(world.children) == 1

    world.children[0].serves = True
    world.pass_time(0.1)

    assert len(world.children) == 3


def test_a_configuration_that_never_worked_ends_the_supervisor():
    world = World(processes=3, serves=False)
    world.pass_time(1)

    world.children[0].code = UNUSABLE

    assert world.supervisor.run() == UNUSABLE
    assert len(world.children) == 1


def test_a_lifespan_that_opens_nothing_ends_the_worker_with_1():
    world = World(processes=3, serves=False)
    world.pass_time(1)

    world.children[0].code = UNOPENED

    assert world.supervisor.run() == 1
    assert len(world.children) == 1


def test_a_lifespan_that_opened_once_is_tried_again():
    world = World()
    world.pass_time(1)
    world.children[0].code = UNOPENED

    assert world.pass_time(1)
    assert len(world.children) == 2


def test_a_configuration_that_worked_once_is_tried_again():
    world = World()
    world.pass_time(1)
    world.children[0].code = UNUSABLE

    assert world.pass_time(1)
    assert len(world.children) == 2


def test_a_stop_reaches_every_child_and_waits_for_them():
    world = World(processes=2)
    world.pass_time(1)

    world.supervisor.stop()

    assert [child.told for child in world.children] == [[Order.STOP], [Order.STOP]]
    assert world.pass_time(4)
    for child in world.children:
        child.code = 0
    assert not world.supervisor.run_once()
    assert world.supervisor.exit_code == 0
    assert len(world.children) == 2


def test_a_second_stop_releases():
    world = World()
    world.pass_time(1)

    world.supervisor.stop()
    world.supervisor.stop()

    assert world.children[0].told == [Order.STOP, Order.RELEASE]


@pytest.mark.parametrize(("signals", "patience"), [(1, 15), (2, 10)])
def test_a_child_that_does_not_end_is_killed_after_grace_and_margin(signals, patience):
    world = World()
    world.pass_time(1)
    for _ in range(signals):
        world.supervisor.stop()

    world.pass_time(patience - 0.1)
    assert not world.children[0].is_killed
    world.pass_time(0.2)

    assert world.children[0].is_killed
    assert not world.supervisor.run_once()
    assert world.supervisor.exit_code == 1


def test_a_child_that_could_not_give_back_its_jobs_fails_the_stop():
    world = World(processes=2)
    world.pass_time(1)
    world.supervisor.stop()

    for child, code in zip(world.children, (1, 0), strict=True):
        child.code = code

    assert not world.supervisor.run_once()
    assert world.supervisor.exit_code == 1


def test_a_child_that_recycles_itself_at_a_stop_has_given_back_its_jobs():
    world = World()
    world.pass_time(1)
    world.supervisor.stop()

    world.children[0].code = RECYCLED

    assert not world.supervisor.run_once()
    assert world.supervisor.exit_code == 0


@pytest.mark.parametrize("code", [None, 1, -15])
def test_a_child_that_was_still_starting_holds_no_job_and_fails_no_stop(code):
    world = World(serves=False)
    world.pass_time(1)
    world.supervisor.stop()

    world.children[0].code = code
    world.pass_time(20)

    assert world.children[0].is_killed == (code is None)
    assert not world.supervisor.run_once()
    assert world.supervisor.exit_code == 0


def test_a_stop_while_nothing_lives_ends_at_once():
    world = World()
    world.pass_time(1)
    world.children[0].code = 1
    world.supervisor.run_once()

    world.supervisor.stop()

    assert world.supervisor.run() == 0
