"""Enqueues what moves of records promise, each trigger's jobs by its own rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from statejobs.store.enqueue import enqueue
from statejobs.store.enqueue_unique import enqueue_unique
from statejobs.values.job import NewJob
from statejobs.values.unique import Unique


def enqueue_promised(
    connection: Connection,
    new: Sequence[NewJob],
    unique: Mapping[str, Unique],
    *,
    former: Mapping[str, str],
) -> None:
    """Enqueue *new*, with a statement for all that are not `Unique`.

    Args:
        connection: The caller's, with the records locked.
        new: Jobs with different dedupe keys.
        unique: Keys of triggers whose jobs are → how.
        former: Former dedupe keys, and those of today.
    """
    by_rule: dict[Unique, list[NewJob]] = {}
    plain = []
    for job in new:
        rule = unique.get(job.key)
        if rule is None:
            plain.append(job)
        else:
            by_rule.setdefault(rule, []).append(job)
    if plain:
        enqueue(connection, plain, former=_of(plain, former))
    # whoever locks jobs of several rules goes by the same order
    for rule in sorted(by_rule, key=repr):
        own = by_rule[rule]
        enqueue_unique(connection, own, rule, former=_of(own, former))


def _of(new: Sequence[NewJob], former: Mapping[str, str]) -> dict[str, str]:
    own = {job.dedupe_key for job in new}
    return {key: today for key, today in former.items() if today in own}
