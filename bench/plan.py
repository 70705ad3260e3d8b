"""How much is measured: enough for a steady median, or just enough to see that it runs."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from bench.databases import Databases

KINDS = ("postgresql", "sqlite FULL", "sqlite NORMAL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where to measure, how often and how long."""

    databases: Databases
    kinds: tuple[str, ...] = KINDS
    runs: int = 5
    seconds: float = 0.8
    """About how long one run of one system takes."""
    quick: bool = False

    @property
    def durable(self) -> tuple[str, ...]:
        """Kinds whose commits reach the disk: enough where the others would say the same."""
        return tuple(kind for kind in self.kinds if kind != "sqlite NORMAL")

    def tell(self, text: str) -> None:
        """Say on stderr what is going on."""
        print(f"  {text}", file=sys.stderr, flush=True)
