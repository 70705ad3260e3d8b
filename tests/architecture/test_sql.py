"""Statements are built in `store`, and nowhere else."""

import ast
from pathlib import Path

import pytest

import statejobs

PACKAGE = Path(statejobs.__file__).parent
BUILDERS = {
    "and_",
    "any_",
    "bindparam",
    "case",
    "cast",
    "delete",
    "exists",
    "func",
    "insert",
    "lazyload",
    "literal",
    "literal_column",
    "not_",
    "or_",
    "select",
    "text",
    "tuple_",
    "type_coerce",
    "union",
    "union_all",
    "update",
}
"""Names of SQLAlchemy that make a statement, or a part of one."""
METHODS = {"add_columns", "order_by", "returning", "where", "with_for_update"}
"""Methods of a statement that make another."""
OURS = {"action.returning", "declared.where"}
"""Methods of ours that are called like one of those."""

CAUGHT = [
    "from sqlalchemy import Table, select",
    "from sqlalchemy.orm import lazyload",
    "import sqlalchemy\nquery = sqlalchemy.select(table)",
    "import sqlalchemy as sa\nsa.update(table)",
    "query = query.where(table.c.id == 1)",
    "statement = statement.returning(*columns)",
]
FREE = [
    "from sqlalchemy import Select, Table",
    "where = declared.where",
    "words = action.returning(source)",
    "found.update(names)",
]


def sql_in(tree):
    """Return the names in *tree* that build SQL."""
    modules = {
        alias.asname or "sqlalchemy"
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name.partition(".")[0] == "sqlalchemy"
    }
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=names):
                if module.partition(".")[0] == "sqlalchemy":
                    yield from {alias.name for alias in names} & BUILDERS
            case ast.Attribute(value=ast.Name(id=name), attr=attr):
                if name in modules and attr in BUILDERS:
                    yield attr
            case ast.Call(func=ast.Attribute(attr=attr) as method) if attr in METHODS:
                if ast.unparse(method) not in OURS:
                    yield attr


@pytest.mark.parametrize("source", CAUGHT)
def test_sql_is_noticed(source):
    assert [*sql_in(ast.parse(source))] != []


@pytest.mark.parametrize("source", FREE)
def test_other_code_is_let_pass(source):
    assert [*sql_in(ast.parse(source))] == []


def test_sql_is_built_in_the_store_alone():
    found = {
        (str(path.relative_to(PACKAGE)), name)
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] != "store"
        for name in sql_in(ast.parse(path.read_text("utf-8")))
    }

    assert found == set()
