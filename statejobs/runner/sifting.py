"""A claim that raised, once more in parts: what starts, and which jobs are to blame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from statejobs.runner.blame import Blame, blame_for, likeness_of
from statejobs.runner.blockers import is_table_locked
from statejobs.runner.halves import in_halves
from statejobs.runner.port import Claim
from statejobs.store.unclaimed import Candidate

ENOUGH = 3
"""So many jobs of a key that raise alike, while none starts, say that it is not the jobs."""


@dataclass(frozen=True, slots=True)
class Blamed:
    """A job that raised by itself; or one of those of a key that cannot be claimed at all."""

    candidate: Candidate
    error: Exception
    blame: Blame

    @property
    def is_table_locked(self) -> bool:
        """Whether somebody has locked a whole table that its key needs."""
        return is_table_locked(self.error)


class Sifting:
    """Takes candidates in halves, each in a transaction of its own."""

    def __init__(self, take: Callable[[Sequence[int]], list[Claim]]) -> None:
        """Make one; *take* claims the jobs of the ids that it is given, or raises."""
        self._take = take
        self.claims: list[Claim] = []
        self.blamed: list[Blamed] = []
        self._hopeless: set[str] = set()
        self._alike: Counter[tuple[str, str]] = Counter()

    def sift(self, candidates: Sequence[Candidate]) -> None:
        """Take what of *candidates* can be taken, and note who of the others is to blame.

        Raises:
            Exception: The database went away before anything was taken.
        """
        by_key: dict[str, list[Candidate]] = {}
        for candidate in candidates:
            by_key.setdefault(candidate.key, []).append(candidate)
        try:
            for own in by_key.values():
                in_halves(
                    own, self._take_part, self._is_blamed, whole_first=len(by_key) > 1
                )
        except Exception:
            if not self.claims:
                raise
            # What has been taken must run; who comes next meets the same.

    def _take_part(self, part: Sequence[Candidate]) -> None:
        if part[0].key not in self._hopeless:
            self.claims += self._take([candidate.id for candidate in part])

    def _is_blamed(self, part: Sequence[Candidate], error: Exception) -> bool:
        blamed = Blamed(part[0], error, blame_for(error))
        if blamed.blame is Blame.EVERYONE:
            raise error
        if blamed.is_table_locked:
            self._hopeless.add(part[0].key)
        elif len(part) > 1:
            return False
        self.blamed.append(blamed)
        if blamed.blame is not Blame.MOMENT:
            self._note_alike(part[0].key, error)
        return True

    def _note_alike(self, key: str, error: Exception) -> None:
        """Spare the others of a key of which enough raised, and none was taken."""
        cause = (key, likeness_of(error))
        self._alike[cause] += 1
        if self._alike[cause] >= ENOUGH and key not in {
            claim.job.key for claim in self.claims
        }:
            self._hopeless.add(key)
