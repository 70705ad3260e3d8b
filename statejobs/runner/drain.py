"""Runs queued jobs here and now, in the caller's thread."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from msgspec import structs

from statejobs.errors import ConfigurationError, StateJobsError
from statejobs.runner.attempts import Result
from statejobs.runner.calls import Call, calls_of, pop_call
from statejobs.runner.claiming import Taken, Wanted
from statejobs.runner.ended import Ended
from statejobs.runner.executors import LoopThread
from statejobs.runner.port import Claim, Ending
from statejobs.runner.runner import Runner
from statejobs.runner.staging import Staging
from statejobs.values.job import Job
from statejobs.values.outcome import Complete


@dataclass(frozen=True, slots=True, repr=False)
class DrainResult:
    """What a drain ran."""

    ended: tuple[Ended, ...]
    unserved: Mapping[str, int] = field(default_factory=dict)
    """Queue that the app does not have → how many jobs are queued there, which no drain runs."""

    @property
    def counts(self) -> dict[str, int]:
        """How many attempts ended in each way, for instance `{"complete": 3, "fail": 1}`."""
        return dict(Counter(one.outcome for one in self.ended))

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The jobs, in the order in which they were run."""
        return tuple(one.job for one in self.ended)

    @property
    def tracebacks(self) -> tuple[str, ...]:
        """What each attempt that failed raised: which attempt of which job, and the traceback."""
        return tuple(_said(one) for one in self.ended if one.failure is not None)

    def __repr__(self) -> str:
        """Return one line, whatever ran."""
        said = ", ".join(f"{count} {outcome}" for outcome, count in self.counts.items())
        left = "".join(
            f"; {count} in queue {queue!r}, which the app does not have"
            for queue, count in self.unserved.items()
        )
        return f"<DrainResult: {said or 'nothing to run'}{left}>"

    def __len__(self) -> int:
        return len(self.ended)


def step(
    runner: Runner,
    queues: Sequence[str],
    loop: LoopThread,
    n: int,
    *,
    fills_chunks: bool = False,
) -> list[Ended]:
    """Claim up to *n* queued jobs, run each, then commit; a fixed order, no threads of ours.

    With *fills_chunks*, jobs beyond *n* are run that share a call with one of them.
    """
    ended: list[Ended] = []
    for queue in queues:
        if len(ended) >= n:
            break
        taken = _take(runner, queue, n - len(ended), fills_chunks=fills_chunks)
        ended += [*map(_as_it_is, taken.ended), *_run_all(runner, taken.claims, loop)]
    return ended


def _take(runner: Runner, queue: str, limit: int, *, fills_chunks: bool) -> Taken:
    """Take what starts, or what failed because it cannot start."""
    wanted = Wanted(queue=queue, limit=limit, fills_chunks=fills_chunks)
    while True:
        taken = runner.claiming.take(wanted)
        if taken.claims or taken.ended or not taken.is_more:
            return taken


def _run_all(runner: Runner, claims: Sequence[Claim], loop: LoopThread) -> list[Ended]:
    """Run *claims* one after the other; their successes end together, as a worker's do."""
    waiting = deque(calls_of(claims))
    most = runner.settings.finish_batch
    results: list[Result] = []
    while waiting:
        for result in _run_call(runner, pop_call(waiting, most=most), loop):
            if isinstance(result, Ending) and not isinstance(result.outcome, Complete):
                results.append(runner.finisher.finish(result))
            else:
                results.append(result)
    left = successes = [result for result in results if isinstance(result, Ending)]
    together: list[Ended] = []
    if len(successes) > 1 and runner.settings.finish_batch > 1:
        together, left = runner.finisher.finish_many(successes)
    singly = [runner.finisher.finish(success) for success in left]
    ended = {one.job.id: one for one in (*together, *singly)}
    return [
        _as_it_is(ended[r.claim.job.id] if isinstance(r, Ending) else r)
        for r in results
    ]


def _as_it_is(ended: Ended) -> Ended:
    """Return *ended* with its job as it is now; a worker, which shows it to nobody, saves this."""
    job = ended.job
    now = structs.replace(
        job,
        state=ended.state or job.state,
        outcome=ended.job_outcome,
        reason=ended.reason,
        run_at=ended.run_at or job.run_at,
    )
    return replace(ended, job=now)


def _run_call(runner: Runner, call: Call, loop: LoopThread) -> Iterable[Result]:
    if not call[0].policy.is_async:
        return runner.attempts.run(call)
    try:
        return loop.run(runner.attempts.run_async(call))
    except ConfigurationError:  # it cannot be run from here
        runner.finisher.release(call[0])
        raise


def drain(
    runner: Runner,
    queues: Sequence[str],
    loop: LoopThread,
    *,
    most: int,
    raise_errors: bool,
) -> DrainResult:
    """Run what is queued, and what that enqueues, until nothing is left.

    Raises:
        Exception: With *raise_errors*, what the first attempt that fails has raised.
        StateJobsError: After *most* attempts, since jobs that enqueue each other never end; or
            jobs of a key cannot be claimed, by no fault of theirs.
    """
    ended: list[Ended] = []
    for one in _attempts(runner, queues, loop):
        if raise_errors:
            _raise_from(one)
        ended.append(replace(one, error=None))  # its frames hold whatever the body did
        if len(ended) >= most:
            keys = Counter(e.job.key for e in ended).most_common(3)
            listed = ", ".join(f"{count} of {key}" for key, count in keys)
            raise StateJobsError(
                f"still work after {most} attempts ({listed})",
                where="drain",
                fix=(
                    "Do jobs enqueue each other without end? Otherwise say "
                    "drain(most=…)"
                ),
            )
    _refuse_held(runner)
    return DrainResult(tuple(ended))


def _raise_from(ended: Ended) -> None:
    if ended.error is not None:
        ended.error.add_note(f"drain: {_which(ended)}")
        raise ended.error
    if ended.failure is not None:
        raise StateJobsError(_said(ended), where="drain")


def _said(ended: Ended) -> str:
    assert ended.failure is not None  # noqa: S101 - asked of those that failed
    return f"{_which(ended)}\n{ended.failure.traceback or ended.failure.message}"


def _which(ended: Ended) -> str:
    job = ended.job
    return f"attempt {job.attempt} of job {job.id} ({job.key}): {ended.outcome}"


def _refuse_held(runner: Runner) -> None:
    """What a worker would leave to others for a while, nobody else does here."""
    for key, hold in runner.claiming.held.all().items():
        raise StateJobsError(
            f"no job of {key} can be claimed, and none of them is to blame",
            where="drain",
            why=hold.reason,
            fix="Do the tables, their columns and the privileges fit this code?",
        ) from hold.error


def _attempts(
    runner: Runner, queues: Sequence[str], loop: LoopThread
) -> Iterator[Ended]:
    staging = Staging(runner.store)
    runner.claiming.look(queues)
    while True:
        staging.run_once(
            queues, runner.work.unpaused_keys(), runner.sources.clock.now()
        )
        ended = step(runner, queues, loop, 1, fills_chunks=True)
        if not ended:
            return
        yield from ended
