"""The clock of a worker on PostgreSQL: its machine may sleep, jump or be wrong."""

from datetime import timedelta

import pytest

from statejobs.events import ClockSet
from statejobs.runner.timekeeping import DatabaseClock, timekeeper_of
from statejobs.telemetry import Telemetry
from tests.support.clock import NOON, ManualClock

LEASE = timedelta(seconds=30)


class Machine(ManualClock):
    """A machine beside a database: each has a wall clock of its own."""

    def __init__(self):
        super().__init__()
        self.database, self.asked = NOON, 0

    def advance(self, span=None, /, **units):
        """Both go on."""
        super().advance(span, **units)
        self.database += span if span is not None else timedelta(**units)

    def jump(self, **units):
        """Someone sets the wall clock of the machine."""
        self._at += timedelta(**units)

    def sleep(self, **units):
        """The machine is suspended: its monotonic seconds stand still."""
        self._at += timedelta(**units)
        self.database += timedelta(**units)

    def ask(self):
        self.asked += 1
        return self.database


@pytest.fixture
def machine():
    return Machine()


@pytest.fixture
def told():
    return []


@pytest.fixture
def clock(machine, told):
    telemetry = Telemetry()
    telemetry.subscribe(told.append)
    made = DatabaseClock(machine, machine.ask, telemetry)
    made.settle_doubt()
    return made


def is_right(clock, machine):
    return abs(clock.now() - machine.database) < timedelta(milliseconds=1)


def test_a_wall_clock_that_jumps_moves_nothing(clock, machine):
    machine.jump(minutes=10)
    machine.advance(seconds=1)

    assert is_right(clock, machine)


def test_after_a_jump_of_the_wall_clock_one_measurement_removes_the_doubt(
    clock, machine, told
):
    machine.jump(minutes=-10)

    clock.settle_doubt()
    clock.settle_doubt()

    assert machine.asked == 2
    assert told == []
    assert not clock.was_set_within(LEASE)
    assert clock.offset == -600


def test_a_machine_that_was_suspended_measures_before_it_decides(clock, machine, told):
    machine.sleep(minutes=10)
    assert not is_right(clock, machine)

    clock.settle_doubt()

    assert is_right(clock, machine)
    assert clock.was_set_within(LEASE)
    assert [type(happening) for happening in told] == [ClockSet]
    assert told[0].seconds == pytest.approx(600)


def test_a_wrong_wall_clock_is_told_at_the_first_sample(machine, told):
    machine.jump(seconds=40)
    telemetry = Telemetry()
    telemetry.subscribe(told.append)
    clock = DatabaseClock(machine, machine.ask, telemetry)
    assert clock.offset is None
    assert clock.now() == machine.now()

    clock.settle_doubt()

    assert is_right(clock, machine)
    assert clock.offset == 40
    assert (told[0].seconds, told[0].offset) == (pytest.approx(-40), 40)
    assert not clock.was_set_within(LEASE)  # nothing was judged by it before


def test_a_database_that_has_another_time_after_a_failover_is_believed(clock, machine):
    machine.database += timedelta(minutes=3)

    clock.take(machine.database, sent=machine.monotonic())
    assert not is_right(clock, machine)
    clock.settle_doubt()

    assert is_right(clock, machine)
    assert machine.asked == 3


def test_leases_are_left_alone_for_as_long_as_they_may_be_misjudged(clock, machine):
    machine.sleep(minutes=10)
    clock.settle_doubt()

    machine.advance(LEASE * 0.9)
    assert clock.was_set_within(LEASE)
    machine.advance(LEASE * 0.2)
    assert not clock.was_set_within(LEASE)


def test_what_was_measured_a_moment_ago_is_not_asked_again(clock, machine):
    clock.refresh()
    assert machine.asked == 1

    machine.advance(seconds=11)
    clock.refresh()
    assert machine.asked == 2


def test_a_clock_that_someone_moves_is_left_alone(machine):
    keeper = timekeeper_of(machine)

    keeper.settle_doubt()
    keeper.take(NOON + timedelta(days=1), sent=0)

    assert machine.asked == 0
    assert machine.now() == NOON
    assert keeper.offset is None
    assert not keeper.was_set_within(LEASE)
