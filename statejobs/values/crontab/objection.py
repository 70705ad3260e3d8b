"""Why an expression is refused, as a value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    """What is wrong with an expression, the rule that it breaks, and what to write."""

    what: str
    why: str
    fix: str = ""
    """Empty when *instead* says it."""
    instead: str | None = None
    """What was probably meant; may itself be refused."""
