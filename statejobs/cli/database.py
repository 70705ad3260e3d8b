"""`db upgrade|check`: the tables of statejobs."""

from __future__ import annotations

import io
from contextlib import redirect_stdout

import click

from statejobs.cli.group import Group
from statejobs.cli.problems import Exit, Problem, problem_of
from statejobs.cli.settings import Settings, common_options, refuse_missing_file
from statejobs.errors import SchemaError
from statejobs.store import schema
from statejobs.store.timeout_index import check_indexes


@click.group("db", cls=Group)
@common_options
def database_group() -> None:
    """Make and check the tables of statejobs."""


@database_group.command("upgrade")
@click.option("--sql", is_flag=True, help="Print the SQL and touch nothing.")
@common_options
@click.pass_obj
def upgrade(settings: Settings, *, sql: bool) -> None:
    """Bring the tables of statejobs to the newest version.

    Your own tables belong to your own migrations.
    """
    app = settings.load()
    engine = app.engine
    if sql:
        text = _upgrade_sql(settings)
        if settings.as_json:
            settings.output.json({"sql": text, "to": schema.HEAD})
        else:
            settings.output.text(text.rstrip())
        return
    before = schema.current(engine)
    alive_since = app.sources.clock.now() - app.settings.lease
    schema.upgrade(engine, alive_since=alive_since)
    if settings.as_json:
        settings.output.json(
            {"from": before, "to": schema.HEAD, "changed": before != schema.HEAD}
        )
    elif before == schema.HEAD:
        settings.output.note(f"the tables are at revision {before} already")
    else:
        settings.output.note(
            f"the tables are at revision {schema.HEAD} now; before: {before or 'none'}"
        )


@database_group.command("check")
@common_options
@click.pass_obj
def check(settings: Settings) -> int:
    """Say whether the tables fit this version of statejobs.

    The exit code is 1 when they do not.
    """
    app = settings.load()
    document: dict[str, object] = {"ok": True, "revision": None, "needed": schema.HEAD}
    problem: Problem | None = None
    try:
        refuse_missing_file(app)
        document["revision"] = schema.current(app.engine)
        app.check_tables()
        check_indexes(app.engine, app.registry.tables)
    except (Problem, SchemaError) as error:
        problem = problem_of(error)
        document["ok"] = False
    document.update(problem.document() if problem else {"error": None})
    if settings.as_json:
        settings.output.json(document)
    elif problem is None:
        revision = document["revision"] or "of your own Alembic"
        settings.output.note(f"the tables are as they should be (revision {revision})")
    if problem is None:
        return Exit.OK
    settings.output.note(problem.lines())
    return Exit.FAILED


def _upgrade_sql(settings: Settings) -> str:
    buffer = io.StringIO()
    with redirect_stdout(buffer):
        schema.upgrade(settings.load().engine, sql=True)
    return buffer.getvalue()
