"""W4: drain stateful jobs. Load a record, act on it, move it, finish."""

from __future__ import annotations

from bench.plan import Plan
from bench.rounds import race
from bench.rows import Row, rows_of_race
from bench.systems import (
    ASYNC,
    ATOMIC,
    BULK,
    CHUNK,
    EACH,
    FIVE_STATEMENTS,
    JSON_COLUMN,
    ONE_STATEMENT,
    QUIET,
    SECOND_ROW,
    SQLITE_BATCH,
    SQLITE_JOB,
    STATEJOBS,
    System,
)

_POSTGRES = (STATEJOBS, EACH, ONE_STATEMENT, FIVE_STATEMENTS, BULK, QUIET, ASYNC)
_SQLITE = (STATEJOBS, EACH, SQLITE_JOB, SQLITE_BATCH, QUIET)


def run(plan: Plan) -> list[Row]:
    """Measure with one and two worker processes."""
    rows = []
    for kind in plan.kinds:
        systems, floor = entrants(kind)
        for workers in (1, 2):
            samples = race(plan, kind, systems, workers=workers)
            rows += rows_of_race("W4", kind, workers, samples, floor.name)
    return rows


def run_chunks(plan: Plan) -> list[Row]:
    """W4b: the same where the user allows one commit for many jobs."""
    rows = []
    for kind in plan.durable:
        floor = BULK if kind == "postgresql" else SQLITE_BATCH
        for workers in (1, 2):
            samples = race(plan, kind, (CHUNK, ATOMIC, floor), workers=workers)
            rows += rows_of_race("W4b", kind, workers, samples, floor.name)
    return rows


def run_json(plan: Plan) -> list[Row]:
    """W4j: the action also sets a JSON column, which fits no array of the database."""
    return _beside_own_columns(plan, "W4j", JSON_COLUMN)


def run_second_rows(plan: Plan) -> list[Row]:
    """W4s: an atomic action that writes a second row through its session."""
    return _beside_own_columns(plan, "W4s", SECOND_ROW)


def _beside_own_columns(plan: Plan, workload: str, system: System) -> list[Row]:
    rows = []
    for kind in plan.durable:
        _, floor = entrants(kind)
        samples = race(plan, kind, (STATEJOBS, system, floor), workers=1)
        rows += rows_of_race(workload, kind, 1, samples, floor.name)
    return rows


def entrants(kind: str) -> tuple[tuple[System, ...], System]:
    """Return what runs on a database of *kind*, and the floor that ratios refer to."""
    return (_POSTGRES, ONE_STATEMENT) if kind == "postgresql" else (_SQLITE, SQLITE_JOB)
