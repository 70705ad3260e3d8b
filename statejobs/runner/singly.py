"""Finishes successes by themselves, beside the batches, so that a lock holds up only who needs it.

Few are tried at a time, since each waits on a connection. Whoever meets a lock that is not given
soon stands back behind all who have tried less often, and waits longer next time.
"""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from itertools import count

from statejobs.runner.ended import Ended
from statejobs.runner.executors import Threads
from statejobs.runner.finisher import Finisher
from statejobs.runner.port import Ending

log = logging.getLogger("statejobs.worker")

MOST = 4
"""Successes that are tried at a time: claims and batches need connections too."""
_FIRST_PATIENCE = timedelta(seconds=0.25)
_LONGEST_PATIENCE = timedelta(seconds=0.5)


class Singly:
    """A line of successes, each of which is tried until it ends."""

    def __init__(
        self,
        finisher: Finisher,
        threads: Threads,
        *,
        on_ended: Callable[[Ending, Ended | None], None],
        most: int = MOST,
    ) -> None:
        """Make a line.

        Args:
            finisher: Commits.
            threads: Where that waits.
            on_ended: Called with each success once it ended, and how; None when nobody can tell.
            most: How many are tried at a time.
        """
        self._finisher = finisher
        self._threads = threads
        self._on_ended = on_ended
        self._most = most
        self._line: list[
            tuple[int, int, Ending]
        ] = []  # by how often tried, then as they came
        self._numbers = count()
        self._serving = 0
        self._lock = threading.Lock()

    def put(self, success: Ending) -> None:
        """Finish *success* soon."""
        with self._lock:
            self._stand(success, tries=0)
            starts = self._serving < self._most
            self._serving += starts
        if starts:
            self._threads.submit(self._serve)

    def _serve(self) -> None:
        while (found := self._take()) is not None:
            tries, success = found
            ended = None
            try:
                ended = self._finisher.try_finish(success, patience=_patience(tries))
                if ended is None:
                    with self._lock:
                        self._stand(success, tries=tries + 1)
                    continue
            except BaseException:  # the thread serves other jobs after this one
                log.exception("job %s could not be finished", success.claim.job.id)
            self._on_ended(success, ended)

    def _stand(self, success: Ending, *, tries: int) -> None:
        heapq.heappush(self._line, (tries, next(self._numbers), success))

    def _take(self) -> tuple[int, Ending] | None:
        with self._lock:
            if not self._line:
                self._serving -= 1
                return None
            tries, _, success = heapq.heappop(self._line)
            return tries, success


def _patience(tries: int) -> timedelta:
    return min(_FIRST_PATIENCE * 2.0 ** min(tries, 10), _LONGEST_PATIENCE)
