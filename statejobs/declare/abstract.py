"""Classes that declare a machine for others, and have no records of their own."""

from __future__ import annotations

from collections.abc import Iterator


def is_abstract(cls: type) -> bool:
    """Return whether SQLAlchemy will not map *cls*: it says so, or has neither base nor table."""
    if vars(cls).get("__abstract__", False):
        return True
    has_base = hasattr(cls, "registry") or hasattr(cls, "_sa_registry")
    return not (has_base or hasattr(cls, "__tablename__") or hasattr(cls, "__table__"))


def mapped_below(cls: type) -> Iterator[type]:
    """Return the nearest subclasses of *cls* that have records, also below abstract ones."""
    subclasses: list[type] = cls.__subclasses__()
    for subclass in subclasses:
        if "__statejobs__" in vars(subclass):
            yield subclass
        else:
            yield from mapped_below(subclass)
