"""One cache of compiled statements for all engines of a test process.

An app compiles a statement once. The engine of each test is a new one, which would compile all
statements again: a quarter of the time of the tests.
"""

from sqlalchemy import Engine
from sqlalchemy.orm import Mapper
from sqlalchemy.util import LRUCache

ROOM = 3000
"""Statements that are kept."""


class SharedCache(LRUCache):
    """Finds what any dialect compiled that is set up as the one that asks."""

    def get(self, key, default=None):
        dialect, *statement = key
        return super().get((_kind_of(dialect), *statement), default)

    def __setitem__(self, key, compiled):
        dialect, *statement = key
        super().__setitem__((_kind_of(dialect), *statement), compiled)


def share_compiled():
    """Let all engines and mappers of this process share what they compile."""
    shared = SharedCache(ROOM)
    # Each engine is about to get one of its own.
    Engine._compiled_cache = property(
        lambda _engine: shared, lambda _engine, _own: None
    )
    # A mapper has one for its own INSERT, UPDATE and DELETE.
    Mapper._compiled_cache = shared


class _Kind:
    """Stands for all dialects that are set up alike; compared by identity, which is fast."""


_kinds = {}


def _kind_of(dialect):
    try:
        return dialect._kind_in_tests
    except AttributeError:
        settings = sorted(
            (name, _shown(value)) for name, value in vars(dialect).items()
        )
        kind = _kinds.setdefault((type(dialect), *settings), _Kind())
        dialect._kind_in_tests = kind
        return kind


def _shown(setting):
    """A setting by its value, and an object that the dialect made for itself by its type."""
    is_value = isinstance(setting, bool | int | str | tuple | None) or callable(setting)
    return repr(setting if is_value else type(setting))
