"""`python -m bench [W4 W3 …] [--runs 5] [--quick]`: measure, print, and write JSON and a plot."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console

from bench import plot, report
from bench.databases import open_databases
from bench.environment import describe
from bench.plan import KINDS, Plan
from bench.rows import Row
from bench.workloads import (
    w1_enqueue,
    w2_bulk,
    w3_tasks,
    w4_orders,
    w5_latency,
    w6_growth,
    w6_snapshot,
    w7_idle,
)

WORKLOADS: Mapping[str, Callable[[Plan], list[Row]]] = {
    "W1": w1_enqueue.run,
    "W2": w2_bulk.run,
    "W3": w3_tasks.run,
    "W4": w4_orders.run,
    "W4b": w4_orders.run_chunks,
    "W4j": w4_orders.run_json,
    "W4s": w4_orders.run_second_rows,
    "W5": w5_latency.run,
    "W6": w6_growth.run,
    "W7": w7_idle.run,
}
ON_REQUEST: Mapping[str, Callable[[Plan], list[Row]]] = {"W6b": w6_snapshot.run}
"""Those that take long by nature."""
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Measure what the command line asks for."""
    asked = _parse()
    with open_databases() as databases:
        plan = Plan(databases=databases, kinds=tuple(asked.database), runs=asked.runs)
        if asked.quick:
            plan = dataclasses.replace(
                plan, runs=min(plan.runs, 2), seconds=0.3, quick=True
            )
        environment = describe(databases)
        rows: list[Row] = []
        for name in asked.workloads:
            plan.tell(name)
            rows += {**WORKLOADS, **ON_REQUEST}[name](plan)
    report.show(rows, environment, Console(width=None if sys.stdout.isatty() else 120))
    label = _label(asked.workloads)
    report.write(rows, environment, RESULTS / f"{label}.json")
    plot.draw(rows, RESULTS / f"{label}.svg")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "workloads",
        nargs="*",
        metavar="W1…W7",
        help="all by default, but for W6b, which takes three minutes",
    )
    parser.add_argument(
        "--runs", type=int, default=5, help="rounds of each system (default: 5)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="see that it runs, in a minute or two"
    )
    parser.add_argument(
        "--database", action="append", choices=KINDS, help="one kind; may be repeated"
    )
    asked = parser.parse_args()
    asked.workloads = asked.workloads or list(WORKLOADS)
    asked.database = asked.database or list(KINDS)
    known = [*WORKLOADS, *ON_REQUEST]
    if unknown := set(asked.workloads) - set(known):
        parser.error(
            f"no workload {', '.join(sorted(unknown))}; there are {', '.join(known)}"
        )
    return asked


def _label(workloads: list[str]) -> str:
    return "latest" if set(workloads) == set(WORKLOADS) else "-".join(workloads)


if __name__ == "__main__":
    main()
