"""Makes the jobs of tasks that are `Unique`, by the keys that their requests share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from statejobs.errors import WrongValueError
from statejobs.record.specs import TaskSpec
from statejobs.store.enqueue_unique import enqueue_unique
from statejobs.values.job import Enqueued, EnqueueResult, NewJob
from statejobs.values.unique import Mark
from statejobs.values.unique_key import UniqueKeys, dedupe_key


def enqueue_unique_tasks(
    connection: Connection,
    task: TaskSpec,
    shared: NewJob,
    each: Sequence[tuple[str, str]],
) -> list[EnqueueResult]:
    """Enqueue a job for each of *each*, arguments and idempotency key, whose key is not held.

    Those that share a key are asked for one after the other, as if each call were made alone. Who
    has found a key held is not asked again: it may be free by then, and would be locked after keys
    that come behind it.

    Raises:
        DuplicateJobError: A key is held, and the task's `Unique` raises; none was enqueued.
        WrongValueError: It raises, and two of *each* share a key.
    """
    keys = task.unique_keys
    unique = task.options.unique
    assert keys is not None  # noqa: S101 - the caller has looked
    assert unique is not None  # noqa: S101
    new, former = keyed_jobs(task, keys, shared, each)
    if unique.on_conflict == "raise":
        _refuse_equals(task, new)
    results: dict[int, EnqueueResult] = {}
    held: dict[str | None, EnqueueResult] = {}
    for places in _without_equals(new):
        asked = [place for place in places if new[place].dedupe_key not in held]
        if not asked:
            break  # nor is there any behind them
        found = enqueue_unique(
            connection, [new[place] for place in asked], unique, former=former
        )
        results.update(zip(asked, found, strict=True))
        held |= {
            new[place].dedupe_key: results[place]
            for place in asked
            if results[place].outcome is Enqueued.DUPLICATE
        }
        former = {}  # they are adopted
    return [results.get(place) or held[job.dedupe_key] for place, job in enumerate(new)]


def keyed_jobs(
    task: TaskSpec, keys: UniqueKeys, shared: NewJob, each: Sequence[tuple[str, str]]
) -> tuple[list[NewJob], dict[str, str]]:
    """Return the jobs with their dedupe keys, and the former ones of each."""
    marked = {
        Mark.QUEUE.value: shared.queue,
        Mark.TENANT.value: shared.tenant,
        Mark.ACTOR.value: shared.actor,
    }
    new: list[NewJob] = []
    former: dict[str, str] = {}
    for args, idempotency_key in each:
        common = keys.shared(args, marked)
        key = dedupe_key(task.key, common)
        for alias in task.options.aliases:
            former[dedupe_key(alias, common)] = key
        new.append(
            replace(shared, args=args, idempotency_key=idempotency_key, dedupe_key=key)
        )
    return new, former


def _without_equals(new: Sequence[NewJob]) -> Iterator[list[int]]:
    """Yield places in *new* whose keys differ: the first of each key, then each second one."""
    seen: dict[str | None, int] = {}
    waves: list[list[int]] = []
    for place, job in enumerate(new):
        wave = seen.get(job.dedupe_key, 0)
        seen[job.dedupe_key] = wave + 1
        if wave == len(waves):
            waves.append([])
        waves[wave].append(place)
    yield from waves


def _refuse_equals(task: TaskSpec, new: Sequence[NewJob]) -> None:
    numbers: dict[str | None, int] = {}
    for number, job in enumerate(new, start=1):
        first = numbers.setdefault(job.dedupe_key, number)
        if first != number:
            raise WrongValueError(
                f"calls {first} and {number} share a key",
                where=task.name,
                why="its Unique(on_conflict='raise') allows one job for it",
                fix="leave out one of them",
            )
