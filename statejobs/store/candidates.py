"""The records that a schedule may pick, as its trigger says: its condition and its order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, cast

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Dialect,
    Select,
    TextClause,
    inspect,
    select,
)
from sqlalchemy.sql.visitors import ExternallyTraversible, iterate
from sqlalchemy.types import Boolean, NullType

from statejobs.store.ago import fit_to_columns
from statejobs.store.records import RecordTable


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """The records of a class that are in a source of an action and match a condition."""

    whole: Any
    """What their rows are mapped to: condition and order speak of it."""
    records: RecordTable
    in_source: ColumnElement[bool]
    """That a record is in a source."""
    matches: ColumnElement[bool]
    """What `where` asks of it; what it says of time is as `ago_at` says."""
    order_by: tuple[ColumnElement[Any], ...] = ()

    @property
    def conditions(self) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
        """Both."""
        return self.in_source, self.matches


def as_clause(given: Any) -> ColumnElement[Any] | None:
    """Return SQL that somebody *gave*, an attribute of a class among it; None for all else."""
    if isinstance(given, type):
        return None
    made = given.__clause_element__() if hasattr(given, "__clause_element__") else given
    if not isinstance(made, ColumnElement | TextClause):
        return None
    fit_to_columns(made)
    clause: Any = made  # text() has no type, and may stand wherever a column does
    return cast("ColumnElement[Any]", clause)


def kind_of_no_condition(clause: ColumnElement[Any]) -> str | None:
    """Return the type of SQL that is neither true nor false; None where nobody can tell."""
    kind = getattr(clause, "type", NullType())
    if isinstance(kind, NullType) or issubclass(kind._type_affinity, Boolean):  # noqa: SLF001 - below decorators
        return None
    return str(kind)


def values_in(clause: ExternallyTraversible) -> list[object]:
    """Return the texts, numbers and times that Python put into a condition."""
    found = [
        part.value
        for part in iterate(clause)
        if isinstance(part, BindParameter) and part.callable is None
    ]
    return [value for value in found if isinstance(value, str | float | int | date)]


def strangers_among(candidates: Candidates) -> list[str]:
    """Return the tables that are named without a join."""
    own = _keys(candidates).get_final_froms()
    # an order alone brings no table into the query
    query = _query(candidates).add_columns(*candidates.order_by)
    found = query.get_final_froms()
    others = [one for one in found if not any(one is table for table in own)]
    return [str(getattr(getattr(one, "element", one), "name", one)) for one in others]


def check_query(candidates: Candidates, dialect: Dialect) -> None:
    """Raise what the statement that picks *candidates* would raise."""
    _query(candidates).compile(dialect=dialect)


def candidates_among(
    whole: Any,
    records: RecordTable,
    sources: Sequence[str],
    *,
    matches: ColumnElement[bool],
    order_by: Sequence[ColumnElement[Any]],
) -> Candidates:
    """Return the records of *whole* in *sources* that match."""
    return Candidates(
        whole=whole,
        records=records,
        in_source=records.state.in_(sources),
        matches=matches,
        order_by=tuple(order_by),
    )


def _query(candidates: Candidates) -> Select[Any]:
    query = _keys(candidates).where(*candidates.conditions)
    return query.order_by(*candidates.order_by)


def _keys(candidates: Candidates) -> Select[Any]:
    return select(*inspect(candidates.whole).primary_key).select_from(candidates.whole)
