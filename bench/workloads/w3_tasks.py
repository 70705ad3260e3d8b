"""W3: drain tasks that do nothing and have no record."""

from __future__ import annotations

from bench.app import noop
from bench.plan import Plan
from bench.rounds import race
from bench.rows import Row, rows_of_race
from bench.systems import TASK_FLOORS, TASKS


def run(plan: Plan) -> list[Row]:
    """Measure with one and two worker processes."""
    rows: list[Row] = []
    ours = () if noop is None else (TASKS,)
    for kind in plan.kinds:
        floors = TASK_FLOORS[kind.partition(" ")[0]]
        for workers in (1, 2):
            if noop is None:
                rows.append(_skipped(kind, workers))
            samples = race(plan, kind, (*ours, *floors), workers=workers)
            rows += rows_of_race("W3", kind, workers, samples, floors[0].name)
    return rows


def _skipped(kind: str, workers: int) -> Row:
    reason = "statejobs has no @task yet"
    return Row(
        workload="W3", database=kind, system=TASKS.name, workers=workers, skipped=reason
    )
