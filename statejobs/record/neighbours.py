"""Other triggers of a resource, whose jobs on the same record a job must not run beside."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from statejobs.record.model import ResourceModel, models_within
from statejobs.record.specs import BoundTrigger


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """What the other triggers mean for a claim of one; mostly nothing."""

    passing: frozenset[str]
    """States where another action works, and from which a record may come back to a source."""
    resting: tuple[BoundTrigger, ...]
    """Triggers that work on a record in a source, while this one would move it away."""


@lru_cache(maxsize=1024)
def neighbours_of(model: ResourceModel, bound: BoundTrigger) -> Neighbours:
    """Return the neighbours of *bound*, on all records that its jobs may be for."""
    within = tuple(models_within(model))
    others = [b for m in within for b in m.triggers.values() if b.key != bound.key]
    leads_back = {
        source
        for edge in (edge for m in within for edge in m.spec.edges)
        if edge.target in bound.sources
        for source in edge.sources
    }
    working = {other.during for other in others if other.during is not None}
    sharing = {
        b.key: b
        for b in others
        if b.during is None and b.targets and {*b.sources} & {*bound.sources}
    }
    return Neighbours(
        passing=frozenset((working & leads_back) - {*bound.sources}),
        resting=() if bound.during is None else tuple(sharing.values()),
    )
