"""Interleaves systems, so that each meets the same weather on the machine."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from bench.databases import Database
from bench.drain import drain
from bench.meter import Sample
from bench.plan import Plan
from bench.systems import System, running

_WARM_UP = 200  # jobs of each worker
_MOST = 20_000
_LEAST = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """A system, warm and idle on its own database."""

    system: System
    database: Database
    processes: Sequence[psutil.Process]
    jobs: int
    """How many jobs make a run of the wanted length."""

    def drain(self) -> Sample:
        """Run once."""
        return drain(self.system, self.database, self.processes, self.jobs)


def race(
    plan: Plan, kind: str, systems: Sequence[System], *, workers: int
) -> dict[str, list[Sample]]:
    """Let each of *systems* drain orders, turn and turn about."""
    samples: dict[str, list[Sample]] = {system.name: [] for system in systems}
    with contextlib.ExitStack() as stack:
        entrants = [_enter(stack, plan, kind, system, workers) for system in systems]
        for number in range(plan.runs):
            plan.tell(
                f"{kind}, {workers} worker process(es), run {number + 1} of {plan.runs}"
            )
            for one in entrants:
                samples[one.system.name].append(one.drain())
    return samples


def _enter(
    stack: contextlib.ExitStack, plan: Plan, kind: str, system: System, workers: int
) -> Entrant:
    database = plan.databases.fresh(kind)
    stack.callback(plan.databases.discard, database)
    processes = stack.enter_context(running(system, database, workers))
    rate = drain(system, database, processes, _WARM_UP * workers).rate
    jobs = int(min(max(rate * plan.seconds, _LEAST), _MOST))
    return Entrant(system=system, database=database, processes=processes, jobs=jobs)
