"""The claimed jobs of one queue: those that run, and a few that wait ahead for a free slot.

A batch costs one claim however many jobs it has. So while jobs are short, more are claimed than
have a slot: as many as the slots will get through within `AHEAD`. Long ones are never claimed so.

A slot is free when a body has ended, but its job holds a place until the outcome is recorded. There
are as many places as slots and two batches more: one is committed while the next fills.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice

from statejobs.runner.calls import Call, pop_call
from statejobs.runner.port import Claim

AHEAD = 0.05
"""Seconds of work that may wait for a slot."""
OVERDUE = 1.0
"""Seconds after which a job that still waits for a slot is given back."""
_BATCHES = 2
"""Batches whose bodies have run and that wait for their commit; with one, W3 lost a quarter."""
_SHORTEST_LOOK = 0.005  # seconds over which a pace is measured

StartServer = Callable[["Lane", bool], None]


class Lane:
    """Hands claims to at most `limit` servers, while there are places; safe between threads."""

    def __init__(
        self,
        queue: str,
        limit: int,
        *,
        most_ahead: int,
        most_together: int,
        start_server: StartServer,
        on_low: Callable[[], None],
    ) -> None:
        """Make a lane.

        Args:
            queue: Its name.
            limit: How many jobs run at once.
            most_ahead: How many more may wait at most.
            most_together: How many jobs may share a transaction.
            start_server: Starts something that calls `take` until it returns None; the flag says
                whether it runs `async def` actions.
            on_low: Called when there is room for more, and the queue is known to have more.
        """
        self.queue = queue
        self.limit = limit
        self.has_more = False
        """Whether the queue had more than fitted, when it was looked at last."""
        self._most_ahead = most_ahead
        self._most_together = most_together
        self._start_server = start_server
        self._on_low = on_low
        self._waiting: deque[Call] = deque()
        self._serving = 0
        self._places = limit + _BATCHES * most_together
        self._held = 0  # claims that were taken, and whose outcome is not recorded
        self._is_full = False  # the next call has no place
        self._was_full = False  # nor had one since the pace was measured
        self._lock = threading.Lock()
        self._ahead = 0
        self._taken = 0
        self._looked_at = 0.0
        self._takes_many = False
        # seconds that a job took, of those that ended since the last look
        self._longest = 0.0
        self._lost: set[Claim] = set()
        """Those whose server is no longer counted: it ends once it comes back."""

    def room(self, now: float) -> int:
        """Return how many more calls to claim jobs for at *now*, in monotonic seconds."""
        with self._lock:
            self._measure(now)
            if self._is_full:
                return 0
            slots = max(0, min(self.limit - self._serving, self._places - self._held))
            waiting = len(self._waiting)
            # Half of it is used up first: a claim costs the same for one as for many.
            ahead = self._ahead if waiting <= self._ahead // 2 else 0
            return max(0, slots + ahead - waiting)

    def put(self, calls: Iterable[Call]) -> None:
        """Let *calls* run, in their order, as slots get free."""
        with self._lock:
            self._waiting.extend(calls)
            kinds = self._kinds_to_start()
        self._start(kinds)

    def free(self, count: int) -> None:
        """Let others have the places of *count* claims that `take` returned: they are recorded."""
        with self._lock:
            self._held -= count
            self._is_full = False
            kinds = self._kinds_to_start()
            is_low = self.has_more and len(self._waiting) <= self._ahead // 2
        self._start(kinds)
        if is_low:
            self._on_low()

    def take(self, *, is_async: bool, after: Call = ()) -> Call | None:
        """Return the next call for a server, *after* the one that it served; None ends it."""
        seconds = max((claim.duration or 0.0 for claim in after), default=0.0) / max(
            1, len(after)
        )
        with self._lock:
            for claim in after:
                claim.has_left = True
            if self._lost and not self._lost.isdisjoint(after):
                self._lost.difference_update(after)
                return None
            self._longest = max(self._longest, seconds)
            before = len(self._waiting)
            is_low = self.has_more and before <= self._ahead // 2
            call = self._take(is_async=is_async)
            taken = before - len(self._waiting)
            self._taken += max(1, taken)
            if taken:
                self._takes_many = taken > 1
            self._held += len(call or ())
            hands_over = call is None and bool(self._waiting) and not self._is_full
            if call is None and not hands_over:
                self._serving -= 1
        if hands_over:  # the next call is of the other kind
            self._start_server(self, not is_async)
        if is_low:
            self._on_low()
        return call

    def lose(self, claim: Claim) -> bool:
        """Let another server have the slot of *claim*; return False when its own is back."""
        with self._lock:
            if claim.has_left:
                return False
            self._lost.add(claim)
            self._serving -= 1
            kinds = self._kinds_to_start()
        self._start(kinds)
        return True

    def pop_overdue(self, now: float) -> list[Call]:
        """Return the jobs that have waited too long for a slot; they wait here no more."""
        with self._lock:
            overdue = [call for call in self._waiting if now - call[0].began > OVERDUE]
            if overdue:
                self._waiting = deque(
                    c for c in self._waiting if now - c[0].began <= OVERDUE
                )
                self._ahead = 0
            return overdue

    def pop_all(self) -> list[Call]:
        """Return every job that waits for a slot; they wait here no more."""
        with self._lock:
            waiting = list(self._waiting)
            self._waiting.clear()
            return waiting

    def _start(self, kinds: Iterable[bool]) -> None:
        for is_async in kinds:
            self._start_server(self, is_async)

    def _kinds_to_start(self) -> list[bool]:
        """Count servers for what waits and has a slot and a place; return whether each is async."""
        kinds: list[bool] = []
        places = self._places - self._held
        for call in islice(self._waiting, max(0, self.limit - self._serving)):
            places -= len(call)
            if not self._fits(call, places):
                self._fill_up()
                break
            kinds.append(call[0].policy.is_async)
        self._serving += len(kinds)
        return kinds

    def _take(self, *, is_async: bool) -> Call | None:
        if not self._waiting or self._waiting[0][0].policy.is_async != is_async:
            return None
        free = self._places - self._held
        if not self._fits(self._waiting[0], free - len(self._waiting[0])):
            self._fill_up()
            return None
        # Those that wait ahead are there because jobs are short; half is for the other slots.
        most = min(self._most_together, 1 + self._ahead // 2, free)
        return pop_call(self._waiting, most=most)

    def _fill_up(self) -> None:
        self._is_full = self._was_full = True

    def _fits(self, call: Call, left: int) -> bool:
        """Whether *call* may run, with *left* places after it; the largest runs by itself."""
        return left >= 0 or left + len(call) >= self._places

    def _measure(self, now: float) -> None:
        """Take the pace since the last look as the pace to come."""
        passed = now - self._looked_at
        if passed < _SHORTEST_LOOK:
            return
        # Long jobs that end at the same moment look like a quick pace.
        pace = self._taken / passed if self._longest < AHEAD else 0.0
        measured = min(self._most_ahead, int(pace * AHEAD))
        # Those that share a transaction or wait for places are taken in bursts, with nothing in
        # between.
        is_in_bursts = self._takes_many or self._was_full
        self._ahead = max(measured, self._ahead // 2) if is_in_bursts else measured
        self._was_full = self._is_full
        self._taken = 0
        self._longest = 0.0
        self._looked_at = now
