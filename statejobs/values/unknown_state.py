"""A state that rows hold and this code does not have, as while a newer version is rolled out."""

from __future__ import annotations


class UnknownState(str):
    """Stands where a member of the enum would: it is no member, and no transition leaves it.

    So one such row fails no query for many; what shows `record.state.value` shows it.
    """

    __slots__ = ()

    @property
    def value(self) -> str:
        """What is stored."""
        return str(self)

    @property
    def name(self) -> str:
        """The same: only newer code knows its name."""
        return str(self)

    def __repr__(self) -> str:
        return f"<UnknownState {str(self)!r}>"
