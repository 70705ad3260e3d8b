"""What a run tells: a table for people, a document for machines."""

from dataclasses import dataclass, field
from typing import Any

from tests.chaos.plan import Plan
from tests.chaos.verifier import Reclaim, Verdict

_SHOWN = 10
_SLOWEST = 3


@dataclass
class Report:
    """Everything that a run showed."""

    plan: Plan
    faults: dict[str, int]
    verdict: Verdict
    counts: dict[str, int]
    reclaims: list[Reclaim]
    """Fastest first."""
    seed: int = 0
    seconds: float = 0.0
    has_finished: bool = False
    heal_seconds: float = 0.0
    resume_seconds: list[float] = field(default_factory=list)
    samples: int = 0
    missed: int = 0
    """Looks at a database that was away."""
    sampled: list[dict] = field(default_factory=list)
    """Rows of the invariant view, seen on the way."""
    cuts: int = 0
    late: int = 0
    """Results of superseded attempts that were dropped."""
    starts: int = 0
    cancelled: int = 0
    mended: int = 0
    refused: int = 0
    how_disk: str = ""

    @property
    def is_clean(self) -> bool:
        """Whether every promise held."""
        return (
            self.has_finished
            and self.samples > 0
            and self.verdict.is_clean
            and not self.sampled
        )

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        verdict = self.verdict
        seconds = [reclaim.seconds for reclaim in self.reclaims]
        return {
            "database": self.plan.database,
            "size": self.plan.size,
            "seed": self.seed,
            "ok": self.is_clean,
            "seconds": round(self.seconds, 1),
            "lease_seconds": self.plan.lease,
            "jobs": self.counts["jobs"],
            "lost": len(verdict.lost),
            "doubled": len(verdict.doubled),
            "illegal": len(verdict.illegal),
            "unfinished": len(verdict.unfinished),
            "invariant_samples": self.samples,
            "invariant_violations": len(self.sampled),
            "heal_seconds": round(self.heal_seconds, 1),
            "resume_seconds": [round(seconds, 1) for seconds in self.resume_seconds],
            "reclaims": len(self.reclaims),
            "reclaim_p50_seconds": percentile(seconds, 0.50),
            "reclaim_p99_seconds": percentile(seconds, 0.99),
            "slowest_reclaims": [str(reclaim) for reclaim in self.reclaims[-_SHOWN:]],
            "faults": self.faults,
            "commit_answers_lost": self.cuts,
            "late_results_dropped": self.late,
            "ticks": len(verdict.lags),
            "tick_p50_seconds": percentile(verdict.lags, 0.50),
            "tick_most_seconds": percentile(verdict.lags, 1.0),
            "disk": self.how_disk,
            "worker_starts": self.starts,
            "samples_missed": self.missed,
            "people": {
                "cancelled": self.cancelled,
                "mended": self.mended,
                "refused": self.refused,
            },
            "counts": self.counts,
            "findings": [
                *verdict.lost,
                *verdict.doubled,
                *verdict.illegal,
                *verdict.unfinished,
                *map(str, self.sampled),
            ][:100],
        }

    def table(self) -> str:
        """As people read it."""
        document = self.document()
        rows = [("", f"chaos, {self.plan.database}, {self.plan.size}")]
        rows += [
            (name, document[name.replace(" ", "_")]) for name in ("seed", "seconds")
        ]
        rows += [(f"fault: {name}", count) for name, count in self.faults.items()]
        if self.cuts:
            rows.append(("answers to COMMIT lost", self.cuts))
        if self.how_disk:
            rows.append(("disk gets full by", self.how_disk))
        rows += sorted(self.counts.items())
        rows += [
            ("lost", document["lost"]),
            ("doubled", document["doubled"]),
            ("illegal", document["illegal"]),
            ("unfinished", document["unfinished"]),
            ("invariant view: samples", self.samples),
            ("invariant view: rows", len(self.sampled)),
            ("late results dropped", self.late),
            ("ticks", document["ticks"]),
            ("ticks late p50, seconds", document["tick_p50_seconds"]),
            ("ticks late at most, seconds", document["tick_most_seconds"]),
            ("heal, seconds", document["heal_seconds"]),
            ("re-claim of killed, jobs", len(self.reclaims)),
            ("re-claim p50, seconds", document["reclaim_p50_seconds"]),
            ("re-claim p99, seconds", document["reclaim_p99_seconds"]),
            ("lease, seconds", self.plan.lease),
            ("work after outage, seconds", document["resume_seconds"] or "-"),
            ("verdict", "held" if self.is_clean else "BROKEN"),
        ]
        lines = [f"{name:<34} {value}" for name, value in rows]
        shown = document["findings"][:_SHOWN]
        more = ["", "findings (all in the JSON):", *shown] if shown else []
        slow = [str(reclaim) for reclaim in self.reclaims[-_SLOWEST:]]
        slow = ["", "slowest re-claims:", *slow] if slow else []
        return "\n".join([*lines, *slow, *more])


def percentile(ordered: list[float], share: float) -> float | None:
    """Return the value below which *share* of *ordered* lies."""
    if not ordered:
        return None
    return round(ordered[min(int(len(ordered) * share), len(ordered) - 1)], 2)
