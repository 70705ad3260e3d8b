"""How much of what: sizes of a run, and its faults in an order drawn from the seed."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Fault(StrEnum):
    """One way to hurt."""

    KILL = "SIGKILL of a worker"
    PAUSE = "SIGSTOP past the lease"
    STORM = "SIGTERM of every worker"
    RESTART = "database restart (immediate)"
    OUTAGE = "database away"
    FAILOVER = "failover to the standby"
    DISCONNECT = "half the sessions ended"
    CUT = "answers to COMMIT lost"
    SILENCE = "network silent"
    SLOW = "network slow"
    HALF_OPEN = "connections half open for good"
    FULL_DISK = "disk full"
    SKEW = "system clock of a worker set"
    REFUSAL = "record that the database refuses to begin"
    FOREIGN = "backlog of another app in our queue"
    FREEZE = "SIGSTOP in a transaction"
    LIMIT = "connections limited"
    TAKEN = "place that is taken"
    UNREADABLE = "value that cannot be decoded"


F = Fault


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run."""

    database: str
    size: str
    jobs: int
    lease: float
    """Seconds."""
    posts: int
    """Supervisors; one of them runs the old version of the app."""
    processes: int = 1
    """Worker processes under each."""
    submitters: int = 2
    faults: Mapping[Fault, int]
    gap: float
    """Mean seconds between faults."""
    pause: float
    """Seconds of a SIGSTOP."""
    outage: float = 0.0
    """Seconds that the database is away."""
    patience: float
    """Seconds to finish everything after the last fault; only a hang takes that long."""
    sample_every: float
    sample_window: float = 60.0

    def order(self, rng: Random) -> list[Fault]:
        """Return every fault as often as it is to happen, shuffled."""
        order = [fault for fault, count in self.faults.items() for _ in range(count)]
        rng.shuffle(order)
        return order

    @property
    def seconds(self) -> float:
        """About how long the faults take; submitters go on for as long."""
        takes = {
            F.OUTAGE: self.outage + 1, F.FAILOVER: 3.0, F.STORM: 4.0, F.RESTART: 1.5,
            F.SILENCE: 2.0, F.FREEZE: 1.0, F.LIMIT: 2.5, F.FULL_DISK: self.lease, F.KILL: 0.3,
        }  # fmt: skip
        return sum(
            count * (self.gap + takes.get(fault, 0.0))
            for fault, count in self.faults.items()
        )

    @property
    def most_seconds(self) -> int:
        """After which a run is one that hangs."""
        return int(4 * self.seconds + 2 * self.patience + 600)


PLANS = {
    ("postgres", "short"): Plan(
        database="postgres", size="short", jobs=1500, lease=3, posts=4,
        faults={
            F.KILL: 12, F.PAUSE: 2, F.STORM: 1, F.RESTART: 2, F.OUTAGE: 1, F.DISCONNECT: 3,
            F.CUT: 8, F.SILENCE: 2, F.SLOW: 1, F.HALF_OPEN: 1, F.SKEW: 4,
            F.REFUSAL: 2, F.FOREIGN: 1, F.FREEZE: 1, F.LIMIT: 2, F.TAKEN: 1, F.UNREADABLE: 1,
        },
        gap=1.0, pause=5, outage=5, patience=180, sample_every=0.2,
    ),
    ("postgres", "full"): Plan(
        database="postgres", size="full", jobs=50_000, lease=30, posts=6, submitters=3,
        faults={
            F.KILL: 200, F.PAUSE: 10, F.STORM: 5, F.RESTART: 10, F.OUTAGE: 2, F.DISCONNECT: 20,
            F.CUT: 60, F.SILENCE: 10, F.SLOW: 5, F.HALF_OPEN: 5, F.SKEW: 30,
            F.REFUSAL: 20, F.FOREIGN: 3, F.FREEZE: 5, F.LIMIT: 10, F.TAKEN: 20, F.UNREADABLE: 10,
        },
        gap=1.2, pause=45, outage=60, patience=3600, sample_every=1.0,
    ),
    ("clocks", "short"): Plan(
        database="clocks", size="short", jobs=600, lease=3, posts=4,
        faults={F.SKEW: 16, F.KILL: 3, F.STORM: 1, F.TAKEN: 1, F.UNREADABLE: 1},
        gap=1.2, pause=5, patience=180, sample_every=0.2,
    ),
    ("clocks", "full"): Plan(
        database="clocks", size="full", jobs=10_000, lease=10, posts=4,
        faults={F.SKEW: 100, F.KILL: 20, F.STORM: 2, F.TAKEN: 5, F.UNREADABLE: 5},
        gap=1.5, pause=15, patience=1800, sample_every=1.0,
    ),
    ("ticks", "short"): Plan(
        database="ticks", size="short", jobs=200, lease=3, posts=4,
        faults={F.KILL: 8, F.PAUSE: 1, F.RESTART: 1, F.SKEW: 3},
        gap=12, pause=20, patience=180, sample_every=0.5,
    ),
    ("ticks", "full"): Plan(
        database="ticks", size="full", jobs=2_000, lease=30, posts=4,
        faults={F.KILL: 20, F.PAUSE: 4, F.RESTART: 2, F.STORM: 1, F.SKEW: 10},
        gap=10, pause=45, patience=1800, sample_every=1.0,
    ),
    ("pgbouncer", "short"): Plan(
        database="pgbouncer", size="short", jobs=600, lease=3, posts=3,
        faults={
            F.KILL: 5, F.PAUSE: 1, F.RESTART: 1, F.OUTAGE: 1, F.DISCONNECT: 2, F.SKEW: 2,
        },
        gap=1.2, pause=5, outage=5, patience=180, sample_every=0.2,
    ),
    ("pgbouncer", "full"): Plan(
        database="pgbouncer", size="full", jobs=10_000, lease=30, posts=4,
        faults={F.KILL: 40, F.PAUSE: 2, F.STORM: 2, F.RESTART: 3, F.OUTAGE: 1, F.DISCONNECT: 10},
        gap=1.5, pause=45, outage=30, patience=1800, sample_every=1.0,
    ),
    ("failover", "short"): Plan(
        database="failover", size="short", jobs=500, lease=3, posts=3,
        faults={
            F.KILL: 4, F.FAILOVER: 1, F.DISCONNECT: 2, F.SKEW: 2, F.TAKEN: 1, F.UNREADABLE: 1,
        },
        gap=1.2, pause=5, patience=180, sample_every=0.2,
    ),
    ("failover", "full"): Plan(
        database="failover", size="full", jobs=10_000, lease=30, posts=4,
        faults={
            F.KILL: 40, F.PAUSE: 2, F.STORM: 2, F.FAILOVER: 1, F.DISCONNECT: 10,
            F.TAKEN: 4, F.UNREADABLE: 4,
        },
        gap=1.5, pause=45, patience=1800, sample_every=1.0,
    ),
    ("sqlite", "short"): Plan(
        database="sqlite", size="short", jobs=600, lease=3, posts=2, processes=2,
        faults={
            F.KILL: 8, F.PAUSE: 1, F.STORM: 1, F.FULL_DISK: 2, F.REFUSAL: 2, F.FOREIGN: 1,
            F.TAKEN: 1, F.UNREADABLE: 1,
        },
        gap=1.2, pause=5, patience=180, sample_every=0.2,
    ),
    ("sqlite", "full"): Plan(
        database="sqlite", size="full", jobs=5_000, lease=10, posts=4, processes=2,
        faults={
            F.KILL: 100, F.PAUSE: 5, F.STORM: 5, F.FULL_DISK: 5, F.REFUSAL: 20, F.FOREIGN: 3,
            F.TAKEN: 10, F.UNREADABLE: 10,
        },
        gap=1.5, pause=15, patience=1800, sample_every=1.0,
    ),
}  # fmt: skip
"""By database and size."""
