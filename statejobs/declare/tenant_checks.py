"""Refuses a `__tenant__` from which no tenant can be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Column

from statejobs.errors import DefinitionError, did_you_mean
from statejobs.record.model import ResourceModel

_KINDS: tuple[type, ...] = (str, int, UUID)


def refuse_no_tenant(model: ResourceModel, columns: Mapping[str, Column[Any]]) -> None:
    """Refuse what is no column of text, whole numbers or UUIDs.

    Args:
        model: Whose `__tenant__`.
        columns: All columns by attribute.

    Raises:
        DefinitionError: With the closest that there is.
    """
    name: object = model.tenant
    if name is None:
        return
    where = f"{model.cls.__name__}.__tenant__"
    if not isinstance(name, str) or name not in columns:
        raise DefinitionError(
            where,
            f"{name!r} is no column of {model.cls.__name__}",
            why="history and jobs take the tenant from it",
            fix=did_you_mean(str(name), columns),
        )
    kind = columns[name].type
    if not _is_readable(kind):
        raise DefinitionError(
            where,
            f"the column {name!r} is {kind!r}",
            why="history and jobs keep the tenant as text, which bulk compares",
            fix="name a column of text, whole numbers or UUIDs, such as a foreign key",
        )


def _is_readable(kind: Any) -> bool:
    try:
        return kind.python_type in _KINDS
    except NotImplementedError:
        # a foreign key without a type of its own has that of the other column, once it is known
        return getattr(kind, "_isnull", False) is True
