"""Which jobs could not be claimed: each is settled by itself, or their key is held for a while."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

from statejobs.events import KeyHeld
from statejobs.runner.blame import Blame, is_everyones, likeness_of
from statejobs.runner.blockers import who_has_locked
from statejobs.runner.ended import Ended
from statejobs.runner.finisher import Finisher
from statejobs.runner.held_keys import LONGEST, HeldKeys
from statejobs.runner.not_begun import NotBegun
from statejobs.runner.port import Works
from statejobs.runner.sifting import ENOUGH, Blamed
from statejobs.store.store import Store
from statejobs.telemetry import Telemetry
from statejobs.values.clock import Sources

log = logging.getLogger("statejobs.runner")

LOCKED_FOR = timedelta(seconds=5)
"""A key is held no longer for a table that somebody has locked: that is over soon."""

StartsAnother = Callable[[str, set[int]], "list[Exception] | None"]
"""Takes a key, and the ids of its jobs that raised; returns what some others raised, or None."""


class Unclaimed:
    """Settles the jobs that a claim blamed."""

    def __init__(
        self,
        store: Store,
        works: Works,
        finisher: Finisher,
        held: HeldKeys,
        *,
        node_id: str,
        sources: Sources,
        telemetry: Telemetry,
    ) -> None:
        self._store = store
        self._held = held
        self._telemetry = telemetry
        self._not_begun = NotBegun(
            store,
            works,
            finisher,
            node_id=node_id,
            sources=sources,
            telemetry=telemetry,
        )

    def settle(
        self,
        blamed: Sequence[Blamed],
        *,
        succeeded: set[str],
        starts_another: StartsAnother,
    ) -> list[Ended]:
        """Settle each of *blamed*; return the attempts that this ended.

        Args:
            blamed: Jobs that raised by themselves.
            succeeded: Keys of which some job was taken meanwhile.
            starts_another: Tries others of a key, of which none was.
        """
        self.note_success(succeeded)
        by_key: dict[str, list[Blamed]] = {}
        for one in blamed:
            by_key.setdefault(one.candidate.key, []).append(one)
        ended: list[Ended] = []
        for key, own in by_key.items():
            cause = (
                None
                if key in succeeded
                else self._cause_to_hold(key, own, starts_another)
            )
            if cause is None:
                ended += self._settle_each(own)
            else:
                self._hold(key, cause)
        return ended

    def note_success(self, keys: Iterable[str]) -> None:
        """Hold none of *keys* any longer."""
        for key in set(keys):
            if self._held.release(key):
                log.info("%s is claimed again", key)

    def _cause_to_hold(
        self, key: str, own: Sequence[Blamed], starts_another: StartsAnother
    ) -> Blamed | None:
        """Return the one that says what is wrong with the key; None when its jobs are."""
        for one in own:
            if one.is_table_locked:
                return one
        suspects = [one for one in own if one.blame is not Blame.MOMENT]
        if not suspects:
            return None
        others = starts_another(key, {one.candidate.id for one in own})
        if others is None:
            return None
        alike = Counter(
            likeness_of(error) for error in (*(s.error for s in suspects), *others)
        )
        for one in suspects:
            if one.blame is Blame.KEY or alike[likeness_of(one.error)] >= ENOUGH:
                return one
        return None

    def _hold(self, key: str, cause: Blamed) -> None:
        longest = LONGEST
        reason = self._not_begun.words(cause.error)
        if cause.is_table_locked:
            longest = LOCKED_FOR
            reason = f"{who_has_locked(self._store)}: {reason}"
        hold = self._held.hold(key, reason, cause.error, longest=longest)
        log.error(
            "no job of %s can be claimed, and none of them is to blame: it is left to other "
            "workers, and tried again in %g s: %s",
            key,
            hold.wait.total_seconds(),
            reason,
        )
        self._telemetry.emit(
            KeyHeld, key=key, reason=reason, seconds=hold.wait.total_seconds()
        )

    def _settle_each(self, own: Sequence[Blamed]) -> list[Ended]:
        ended: list[Ended] = []
        for one in own:
            try:
                ended += self._not_begun.settle(one)
            except Exception as error:
                if is_everyones(error):
                    raise
                # It can neither run nor be put away; without this it would be met for ever.
                self._hold(one.candidate.key, Blamed(one.candidate, error, Blame.KEY))
        return ended
