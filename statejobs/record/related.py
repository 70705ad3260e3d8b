"""What is loaded with the records of a trigger when an attempt begins: its `load=`."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sqlalchemy.exc import ArgumentError, InvalidRequestError

from statejobs.errors import DefinitionError, StateJobsError
from statejobs.record.model import ResourceModel
from statejobs.record.specs import BoundTrigger
from statejobs.store.record_rows import check_loading
from statejobs.values.loading import options_in
from statejobs.values.unrun import ran


@lru_cache(maxsize=1024)
def loader_options(model: ResourceModel, bound: BoundTrigger) -> tuple[Any, ...]:
    """Return what a query for records of *model* is given; nothing when none is needed."""
    declared = bound.options.load
    if callable(declared):
        declared = ran(declared(model.cls), "load= of", bound.key)
    return options_in(declared)


def check_load(where: str, model: ResourceModel, bound: BoundTrigger) -> None:
    """Refuse what no query for records of *model* can be given.

    Raises:
        DefinitionError: It raises, is no loader option, or is one of another class.
    """
    if bound.options.load is None:
        return
    name = model.cls.__name__
    try:
        options = loader_options(model, bound)
        check_loading(model.cls, options)
    except (ArgumentError, InvalidRequestError, StateJobsError) as error:
        problem = str(error)
    except Exception as error:  # noqa: BLE001 - the function is the user's
        problem = f"{type(error).__name__}: {error}"
    else:
        return
    raise DefinitionError(
        where,
        f"its load= cannot be used: {problem}",
        why=f"it says what is loaded with each {name} when an attempt begins",
        fix="load=lambda cls: selectinload(cls.lines)",
    )
