"""`python -m bench.peers [oban huey …] [--runs 3] [--quick]`: other libraries beside statejobs."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from rich.console import Console

from bench import report
from bench.app import noop
from bench.databases import Databases, open_databases
from bench.drain import drain
from bench.environment import describe
from bench.meter import Sample
from bench.peers.catalogue import PEERS, Peer
from bench.peers.environments import UnavailableError, python_of
from bench.peers.run import PeerRun
from bench.plan import Plan
from bench.rows import Row, rows_of_race
from bench.systems import STATEJOBS, TASKS, System, running
from bench.workloads.w1_enqueue import submit_one_by_one

RESULTS = Path(__file__).parents[1] / "results/peers.json"
OURS = "statejobs"
Measure = Callable[[], Sample]


def main() -> None:
    """Measure what the command line asks for."""
    asked = _parse()
    peers = [peer for peer in PEERS if not asked.peers or peer.name in asked.peers]
    with open_databases() as databases:
        plan = Plan(
            databases=databases,
            runs=1 if asked.quick else asked.runs,
            quick=asked.quick,
        )
        rows: list[Row] = []
        for is_sqlite in (False, True):
            chosen = [peer for peer in peers if peer.is_sqlite == is_sqlite]
            if chosen:
                rows += _compare(
                    plan, chosen, "sqlite FULL" if is_sqlite else "postgresql"
                )
        environment = describe(databases)
    console = Console(width=None if sys.stdout.isatty() else 120)
    report.show(rows, environment, console)
    report.write(rows, environment, RESULTS)


def _compare(plan: Plan, peers: Sequence[Peer], kind: str) -> list[Row]:
    """Run the peers and statejobs turn and turn about; ratios are to statejobs."""
    rows = []
    with contextlib.ExitStack() as stack:
        runs: dict[str, PeerRun] = {}
        for peer in peers:
            try:
                runs[peer.name] = _open(stack, plan.databases, peer, kind)
            except UnavailableError as error:
                rows.append(
                    Row(
                        workload="all",
                        database=kind,
                        system=peer.name,
                        skipped=str(error),
                    )
                )
        for workload, workers in (
            ("W1", 1),
            ("W3", 1),
            ("W3", 2),
            ("W4", 1),
            ("W4", 2),
        ):
            rows += _race(plan, runs, kind, workload, workers)
    return rows


def _open(
    stack: contextlib.ExitStack, databases: Databases, peer: Peer, kind: str
) -> PeerRun:
    python = python_of(peer)
    database = databases.fresh(kind)
    stack.callback(databases.discard, database)
    run = PeerRun(peer, python, database)
    stack.callback(run.close)
    return run


def _race(
    plan: Plan, runs: dict[str, PeerRun], kind: str, workload: str, workers: int
) -> list[Row]:
    count = (
        {"W1": 200, "W3": 1000, "W4": 300}
        if plan.quick
        else {"W1": 1000, "W3": 4000, "W4": 1500}
    )
    jobs = count[workload]
    samples: dict[str, list[Sample]] = {}
    skipped: list[Row] = []
    with contextlib.ExitStack() as stack:
        ours = _ours(stack, plan, kind, workload, workers, jobs)
        measures: dict[str, Measure] = {} if ours is None else {OURS: ours}
        for name, run in runs.items():
            measures[name] = _theirs(run, workload, workers, jobs)
        for number in range(plan.runs):
            for name, measure in list(measures.items()):
                plan.tell(
                    f"{kind}, {workload}, {workers} process(es), {name}, run {number + 1}"
                )
                try:
                    samples.setdefault(name, []).append(measure())
                except UnavailableError as error:
                    del measures[name]
                    samples.pop(name, None)
                    plan.tell(f"skipped: {error}")
                    skipped.append(_skip(workload, kind, workers, name, str(error)))
    if ours is None:
        skipped.append(
            _skip(workload, kind, workers, OURS, "statejobs has no @task yet")
        )
    reference = OURS if OURS in samples else _best(samples)
    return (
        [*rows_of_race(workload, kind, workers, samples, reference), *skipped]
        if samples
        else skipped
    )


def _best(samples: dict[str, list[Sample]]) -> str:
    return max(
        samples, key=lambda name: median(s.rate for s in samples[name]), default=OURS
    )


def _skip(workload: str, kind: str, workers: int, name: str, why: str) -> Row:
    return Row(
        workload=workload, database=kind, workers=workers, system=name, skipped=why
    )


def _theirs(run: PeerRun, workload: str, workers: int, jobs: int) -> Measure:
    if workload == "W1":
        return lambda: run.enqueue(jobs)
    return lambda: run.drain(workload, jobs, workers)


def _ours(  # noqa: PLR0917
    stack: contextlib.ExitStack,
    plan: Plan,
    kind: str,
    workload: str,
    workers: int,
    jobs: int,
) -> Measure | None:
    if workload == "W3" and noop is None:
        return None
    database = plan.databases.fresh(kind)
    stack.callback(plan.databases.discard, database)
    if workload == "W1":
        return lambda: submit_one_by_one(database, jobs)
    system: System = TASKS if workload == "W3" else STATEJOBS
    processes = stack.enter_context(running(system, database, workers))
    drain(system, database, processes, 200 * workers)
    return lambda: drain(system, database, processes, jobs)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    names = [peer.name for peer in PEERS]
    parser.add_argument(
        "peers", nargs="*", metavar="NAME", help=f"of {', '.join(names)}"
    )
    parser.add_argument("--runs", type=int, default=3, help="rounds (default: 3)")
    parser.add_argument("--quick", action="store_true", help="see that it runs")
    asked = parser.parse_args()
    if unknown := set(asked.peers) - set(names):
        parser.error(
            f"no library {', '.join(sorted(unknown))}; there are {', '.join(names)}"
        )
    return asked


if __name__ == "__main__":
    main()
