"""INSERT and UPDATE through a session, past its records: each is served, refused, or none of ours.

A table in the reference manual lists these doors; a test holds each of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import ORMExecuteState
from sqlalchemy.sql.selectable import AliasedReturnsRows

from statejobs.errors import BulkError, ProtectedStateError
from statejobs.record.creation import create_records
from statejobs.record.ledger import value_of

if TYPE_CHECKING:
    from statejobs.record.model import ResourceModel

RESOURCE = "statejobs.resource"
"""Key in `Column.info` of the model whose state the column holds."""


def serve_or_refuse(execution: ORMExecuteState) -> Any:
    """Let an INSERT write history and jobs too; refuse a statement that sets a state itself.

    Raises:
        ProtectedStateError: It would write a state past its machine.
        BulkError: It would create records without the history and the jobs that they promise.
    """
    if not (execution.is_insert or execution.is_update):
        return None
    statement = _statement_that_writes(execution)
    model = _model_of(statement)
    if model is None:
        return None
    names = set(_written_names(execution, statement))
    _refuse_machine_columns(execution, model, names)
    _refuse_replacing(statement, model)
    if execution.is_update or not model.tells_of_creation:
        return None
    if statement is not execution.statement:
        raise _read_back(model)
    return create_records(
        execution,
        statement,
        model,
        names=names,
        updates=_updated_on_conflict(statement),
    )


def _statement_that_writes(execution: ORMExecuteState) -> Any:
    """Return the statement itself, or the one that `from_statement()` reads from."""
    statement: Any = execution.statement
    return statement.element if execution.is_from_statement else statement


def _model_of(statement: Any) -> ResourceModel | None:
    """Return the resource whose records a statement writes, by its class or by its table."""
    described = _description_of(statement)
    model: ResourceModel | None = getattr(described.get("type"), "__statejobs__", None)
    if model is not None:
        return model
    table = described["table"]
    while isinstance(table, AliasedReturnsRows):
        table = table.element
    columns = getattr(table, "columns", ())
    # Of a lightweight `table()` they have no `info`.
    infos = (getattr(column, "info", {}) for column in columns)
    return next((info[RESOURCE] for info in infos if RESOURCE in info), None)


def _description_of(statement: Any) -> Mapping[str, Any]:
    """Return what SQLAlchemy says of what is written.

    Of a plain table it says nothing when attributes of a class stand in the condition.
    """
    try:
        described: Mapping[str, Any] = statement.entity_description
    except KeyError:
        return {"table": statement.table}
    return described


def _refuse_machine_columns(
    execution: ORMExecuteState, model: ResourceModel, names: Collection[str]
) -> None:
    written = sorted(
        model.machine_names & {_column_behind(model, name) for name in names}
    )
    if not written:
        return
    kind = "update"
    instead = "Fire a transition on each record instead"
    if execution.is_insert:
        initial = value_of(model.state.initial)
        kind = "insert"
        instead = f"Leave it out, so that the records start in {initial!r}"
    raise ProtectedStateError(
        f"{kind}({model.cls.__name__}) sets {written[0]!r}",
        why="that would skip guards, history and jobs",
        fix=instead,
    )


def _refuse_replacing(statement: Any, model: ResourceModel) -> None:
    """Refuse INSERT OR REPLACE of SQLite, which begins the record that is there anew."""
    words = " ".join(str(prefix) for prefix, _ in statement._prefixes)  # noqa: SLF001
    if "REPLACE" in words.upper():
        raise ProtectedStateError(
            f"insert({model.cls.__name__}) with {words!r} would take a record back "
            "to its initial state, past guards, history and jobs",
            fix="Use on_conflict_do_nothing(), and update what was there",
        )


def _column_behind(model: ResourceModel, name: str) -> str:
    """Return what a synonym or a hybrid attribute stands for; any other name as it is."""
    if name in model.mapper.columns:
        return name
    expression = getattr(getattr(model.cls, name, None), "expression", None)
    return str(getattr(expression, "key", name))


def _written_names(execution: ORMExecuteState, statement: Any) -> Iterator[str]:
    """Return the columns that a statement sets, wherever it names them."""
    # There is no public way to read what an Insert or Update sets; a test holds these lines.
    yield from map(_name, statement._values or ())  # noqa: SLF001
    for rows in statement._multi_values:  # noqa: SLF001
        for row in rows:
            yield from map(
                _name, row if isinstance(row, dict) else _first_columns(statement, row)
            )
    for column, _ in getattr(statement, "_ordered_values", None) or ():
        yield _name(column)
    yield from map(_name, getattr(statement, "_select_names", None) or ())
    yield from map(_name, _updated_on_conflict(statement))
    given = execution.parameters
    for parameters in [given] if isinstance(given, dict) else given or ():
        yield from map(str, parameters)


def _first_columns(statement: Any, row: Any) -> list[Any]:
    """Return the columns of a row that is given by position."""
    return list(statement.table.c)[: len(row)]


def _name(column: Any) -> str:
    return str(getattr(column, "key", column))


def _updated_on_conflict(statement: Any) -> list[Any]:
    """Return the columns that ON CONFLICT DO UPDATE sets."""
    clause = getattr(statement, "_post_values_clause", None)
    updated = getattr(clause, "update_values_to_set", None) or {}
    return list(dict(updated))  # SQLAlchemy 2.0 has pairs


def _read_back(model: ResourceModel) -> BulkError:
    name = model.cls.__name__
    return BulkError(
        f"select(…).from_statement(insert({name}))",
        "creates records in a statement that reads",
        why="their history and the jobs that they promise would not be written",
        fix=f"execute the insert itself: session.scalars(insert({name}).returning({name}))",
    )
