"""What a benchmark says: one row for each system, comparable inside its group only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.meter import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure, with what it is compared to."""

    workload: str
    database: str
    system: str
    workers: int = 1
    ratio_to_floor: float | None = None
    """Of the same round: above 1 is better than the floor, for rates and for times."""
    floor: str | None = None
    cpu_ratio_to_floor: float | None = None
    """CPU of the floor by CPU of the system, for each job; steady on a busy machine."""
    rate: float | None = None
    lowest: float | None = None
    highest: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    worker_ms: float | None = None
    """CPU of the workers for each job, milliseconds."""
    server_ms: float | None = None
    """CPU of PostgreSQL for each job, milliseconds."""
    wal_bytes: float | None = None
    other_cores: float | None = None
    """How many cores other programs kept busy meanwhile: above 0.3, trust ratios only."""
    figures: Mapping[str, float] | None = None
    """Whatever else was measured, by name."""
    runs: int = 1
    skipped: str | None = None
    """Why there is no figure."""


def rows_of_race(
    workload: str,
    database: str,
    workers: int,
    samples: Mapping[str, Sequence[Sample]],
    floor: str,
) -> list[Row]:
    """Return a row for each system; its ratio is the median of the ratios of the rounds."""
    return [
        Row(
            workload=workload,
            database=database,
            system=system,
            workers=workers,
            ratio_to_floor=median(
                a.rate / b.rate for a, b in zip(taken, samples[floor], strict=True)
            ),
            floor=floor,
            cpu_ratio_to_floor=_cpu_ratio(samples[floor], taken),
            rate=median(sample.rate for sample in taken),
            lowest=min(sample.rate for sample in taken),
            highest=max(sample.rate for sample in taken),
            worker_ms=median_of([sample.worker_ms for sample in taken]),
            server_ms=median_of([sample.server_ms for sample in taken]),
            wal_bytes=median_of([sample.wal_bytes for sample in taken]),
            other_cores=median_of([sample.other_cores for sample in taken]),
            runs=len(taken),
        )
        for system, taken in samples.items()
    ]


def _cpu_ratio(floor: Sequence[Sample], taken: Sequence[Sample]) -> float | None:
    ours, theirs = median_of([*map(_cpu, taken)]), median_of([*map(_cpu, floor)])
    return theirs / ours if ours and theirs else None


def _cpu(sample: Sample) -> float | None:
    return (
        None if sample.worker_ms is None else sample.worker_ms + (sample.server_ms or 0)
    )


def median_of(values: Sequence[float | None]) -> float | None:
    """Return the median of what was measured; None when nothing was."""
    known = [value for value in values if value is not None]
    return median(known) if known else None
