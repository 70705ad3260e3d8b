"""A statement compiled once, for the paths where building it again costs more than running it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, CursorResult, Dialect


class Prepared:
    """Sends a statement as text; its parameters are processed as SQLAlchemy would."""

    def __init__(self, statement: Any, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        self._statement, self._text = statement, str(compiled)
        self._constants = dict(compiled.params)
        processors = {
            name: bind.type.dialect_impl(dialect).bind_processor(dialect)
            for bind, name in compiled.bind_names.items()
        }
        self._processors = {n: process for n, process in processors.items() if process is not None}

    def execute(self, connection: Connection, parameters: Mapping[str, Any]) -> CursorResult[Any]:
        """Run it on *connection* with named *parameters*."""
        if connection.get_execution_options().get("schema_translate_map"):
            return connection.execute(self._statement, parameters)  # names change as it is built
        values = {**self._constants, **parameters}
        for name, process in self._processors.items():
            values[name] = process(values[name])
        return connection.exec_driver_sql(self._text, values)
