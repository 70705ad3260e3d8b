"""Column types that mean the same on both databases."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Dialect, Integer, String, Text
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeDecorator, TypeEngine

from statejobs.errors import WrongValueError, did_you_mean
from statejobs.values.text import clean_text
from statejobs.values.unknown_state import UnknownState

BigId = BigInteger().with_variant(Integer, "sqlite")
"""64-bit identity; SQLite counts only an INTEGER key up by itself."""


def type_on_postgresql(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    """Return the type that a column of *kind* has there, below what was made of it in Python."""
    stored = kind.dialect_impl(_POSTGRESQL)
    while isinstance(stored, TypeDecorator):
        stored = stored.impl_instance
    return stored


_POSTGRESQL: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]


class UtcDateTime(TypeDecorator[datetime]):
    """Aware datetimes, stored and returned in UTC (as text of fixed width on SQLite)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        """Refuse naive times; send UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise WrongValueError(
                f"naive datetime {value!r}",
                why="its instant is unknown",
                fix="Give it a time zone, for instance datetime(..., tzinfo=UTC)",
            )
        instant = value.astimezone(UTC)
        return instant.replace(tzinfo=None) if dialect.name == "sqlite" else instant

    def process_result_value(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        """Return an aware time in UTC."""
        if value is None:
            return None
        return (
            value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        )


class CleanText(TypeDecorator[str]):
    """Text that somebody else chose, such as a reason: cleaned and bounded on its way in."""

    impl = Text
    cache_ok = True

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        """Most bytes."""

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Send what every database can hold."""
        del dialect
        return None if value is None else clean_text(value, self.limit)


class StateType(TypeDecorator[Any]):
    """An enum of states, stored by value, so that names in code may change."""

    impl = String
    cache_ok = True

    def __init__(self, states: type[enum.Enum], length: int | None = None) -> None:
        values = [str(member.value) for member in states]
        super().__init__(length or max(32, *(len(value) for value in values)))
        self.states = states
        self.members: Mapping[str, enum.Enum] = {str(m.value): m for m in states}

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Send the value of the member."""
        if value is None:
            return None
        text = value.value if isinstance(value, enum.Enum) else value
        if text not in self.members and not isinstance(value, UnknownState):
            raise WrongValueError(
                f"{text!r} is not a state of {self.states.__name__}",
                fix=did_you_mean(str(text), self.members),
            )
        return str(text)

    def process_result_value(
        self, value: str | None, dialect: Dialect
    ) -> enum.Enum | UnknownState | None:
        """Return the member; an `UnknownState` for a value that this code does not know."""
        if value is None:
            return None
        member = self.members.get(value)
        return UnknownState(value) if member is None else member

    @property
    def python_type(self) -> type[enum.Enum]:
        """The enum."""
        return self.states
