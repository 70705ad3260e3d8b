"""Forms of inheritance under which one machine cannot serve a class and its subclasses."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.declarative import AbstractConcreteBase
from sqlalchemy.orm import Mapper

from statejobs.errors import DefinitionError

_ABSTRACT = "declare the machine on a base with __abstract__ = True, or on a mixin without a table"


def refuse_unmapped_base(cls: type, root: type) -> None:
    """Refuse a machine on a base that has no table.

    Args:
        cls: The class that is being made.
        root: The class that declares its machine.

    Raises:
        DefinitionError: SQLModel or AbstractConcreteBase leaves it so.
    """
    if AbstractConcreteBase in cls.__bases__:
        raise DefinitionError(
            cls.__name__,
            "it declares a state column, and is an AbstractConcreteBase",
            why="that is mapped only after its subclasses, so it has no table to move records in",
            fix=_ABSTRACT,
        )
    is_model = hasattr(root, "model_config")
    if root is cls or "__mapper__" in vars(root) or not is_model:
        return
    raise DefinitionError(
        cls.__name__,
        f"its base {root.__name__} declares a state column, and has no table",
        why="SQLModel maps classes with table=True alone, and shares no column between them",
        fix="put StatefulResource and the state column on each class with table=True",
    )


def refuse_concrete(cls: type, root: type) -> None:
    """Refuse *cls* if it has all its columns in a table of its own, below *root*, which has one.

    Raises:
        DefinitionError: It is mapped with `concrete=True`.
    """
    mapper: Mapper[Any] | None = vars(cls).get("__mapper__")  # SQLModel maps later
    if root is cls or mapper is None or not mapper.concrete:
        return
    raise DefinitionError(
        cls.__name__,
        f"it is mapped with concrete=True below {root.__name__}, whose machine it has",
        why=f"its records would not be in the table of {root.__name__}, and share keys with those "
        "that are, so that history and jobs would mistake one for another",
        fix=f"{_ABSTRACT}, and derive both from it",
    )
