"""Which claimed jobs share a call of their action."""

from __future__ import annotations

from collections.abc import Iterable

from statejobs.runner.port import Claim

Call = tuple[Claim, ...]
"""Claims whose bodies run in one call; most have one only."""


def calls_of(claims: Iterable[Claim]) -> list[Call]:
    """Put *claims* into as few calls as their chunks allow, in their order."""
    calls: list[list[Claim]] = []
    filling: dict[object, list[Claim]] = {}
    for claim in claims:
        chunk = claim.policy.chunk
        if chunk is None or claim.job.attempt > 1:  # what failed before must harm no other
            calls.append([claim])
            continue
        kind = (chunk.work.kind_of(claim), claim.job.tenant)
        call = filling.get(kind)
        if call is None or len(call) >= chunk.size:
            call = filling[kind] = []
            calls.append(call)
        call.append(claim)
    return [tuple(call) for call in calls]
