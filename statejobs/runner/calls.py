"""Which claimed jobs share a call of their action, or the transaction of theirs."""

from __future__ import annotations

from collections import deque
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
        if chunk is None or chunk.only_waiting or not _may_share(claim):
            calls.append([claim])
            continue
        kind = claim.kind
        call = filling.get(kind)
        if call is None or len(call) >= chunk.size:
            call = filling[kind] = []
            calls.append(call)
        call.append(claim)
    return [tuple(call) for call in calls]


def pop_call(waiting: deque[Call], *, most: int) -> Call:
    """Take the next call, and those behind it that may be made with it, up to *most* claims."""
    call = waiting.popleft()
    first = call[0]
    chunk = first.policy.chunk
    if chunk is None or not chunk.only_waiting or most < 2 or not _may_share(first):  # noqa: PLR2004
        return call
    kind = first.kind
    claims = [first]
    while len(claims) < min(most, chunk.size) and waiting:
        (following, *_) = waiting[0]
        if following.policy.chunk != chunk or not _may_share(following):
            break
        if following.kind != kind:
            break
        claims.append(following)
        waiting.popleft()
    return tuple(claims)


def _may_share(claim: Claim) -> bool:
    """What failed before must harm no other."""
    return claim.job.attempt <= 1
