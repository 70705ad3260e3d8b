"""Commits successes as they come: whatever waits when a commit is over goes into the next.

There is no timer. A single success is committed at once; under load the batches grow by themselves.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence

from statejobs.runner.finisher import Finisher
from statejobs.runner.port import Claim, Ending

log = logging.getLogger("statejobs.runner")

_PATIENCE = 5.0  # seconds for a commit that is under way when it must stop


class Committer:
    """A thread that finishes successes in batches."""

    def __init__(
        self,
        finisher: Finisher,
        *,
        most: int,
        on_ended: Callable[[Sequence[Claim]], None],
        on_left: Callable[[Ending], None],
    ) -> None:
        """Make a committer.

        Args:
            finisher: Commits.
            most: Most successes in one batch.
            on_ended: Called with the claims of a batch whose outcomes are recorded.
            on_left: Called for each success that must be finished by itself, which may take long.
        """
        self._finisher = finisher
        self._most = most
        self._on_ended = on_ended
        self._on_left = on_left
        self._successes: queue.SimpleQueue[Ending | None] = queue.SimpleQueue()
        self._is_stopping = False
        self._thread = threading.Thread(
            target=self._run, name="statejobs-commit", daemon=True
        )

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def put(self, success: Ending) -> None:
        """Commit *success* soon."""
        self._successes.put(success)

    def stop(self) -> None:
        """End after the batch that is being committed; what else was put is left as it is."""
        self._is_stopping = True
        self._successes.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout=_PATIENCE)

    def _run(self) -> None:
        while (first := self._successes.get()) is not None and not self._is_stopping:
            batch = [first, *self._take_waiting()]
            left = batch
            try:
                _, left = self._finisher.finish_many(batch)
            except Exception:  # the thread serves other jobs after these
                log.exception("%d jobs are finished one by one", len(batch))
            singly = {success.claim for success in left}
            self._on_ended([s.claim for s in batch if s.claim not in singly])
            for success in left:
                self._on_left(success)

    def _take_waiting(self) -> list[Ending]:
        found: list[Ending] = []
        while len(found) < self._most - 1:
            try:
                success = self._successes.get_nowait()
            except queue.Empty:
                break
            if success is None:
                self._successes.put(None)
                break
            found.append(success)
        return found
