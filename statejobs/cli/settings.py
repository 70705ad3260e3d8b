"""The options that every command has, and the app that they lead to."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from statejobs.app import StateJobs
from statejobs.cli.output import Output
from statejobs.cli.problems import Exit, Problem
from statejobs.cli.source import APP_VARIABLE, DATABASE_VARIABLE, find_source, load_app
from statejobs.store.engines.sqlite import database_path
from statejobs.values.redaction import DEFAULT, Redaction


def refuse_missing_file(app: StateJobs) -> None:
    """Refuse a SQLite database whose file is not there.

    Raises:
        Problem: It is not.
    """
    is_sqlite = app.engine.dialect.name == "sqlite"
    path = database_path(app.engine) if is_sqlite else None
    if path is None or path.exists():
        return
    raise Problem(
        f"no such file: {path}",
        "SQLite would make an empty one, and there would be nothing in it",
        "correct the path (--database, STATEJOBS_DATABASE, or your app), "
        "or make the tables: statejobs db upgrade",
        Exit.USAGE,
    )


F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class Settings:
    """What was said on the command line; the environment fills in the rest."""

    app: str | None = None
    database: str | None = None
    as_json: bool = False
    debug: bool = False
    output: Output = field(default_factory=Output)
    redaction: Redaction = DEFAULT
    """What is hidden; the app's, once that is loaded."""

    def load(self) -> StateJobs:
        """Return the app.

        Raises:
            Problem: None is named, or it cannot be imported.
        """
        app = self.import_app()
        click.get_current_context().call_on_close(app.engine.dispose)
        self.redaction = app.redaction
        return app

    def load_existing(self) -> StateJobs:
        """Return the app, for a command that makes no database.

        Raises:
            Problem: As `load`; or SQLite would make an empty file of a mistyped name.
        """
        app = self.load()
        refuse_missing_file(app)
        return app

    def import_app(self) -> StateJobs:
        """Return the app for a look at what it declares; whoever uses its database closes it."""
        directory = Path.cwd()
        source = find_source(self.app, os.environ, directory)
        return load_app(source, self.chosen_database(), directory)

    def chosen_database(self) -> str | None:
        """Return the database that was named; None leaves the app its own."""
        return self.database or os.environ.get(DATABASE_VARIABLE) or None

    def app_name(self) -> str:
        """Return how the app was named."""
        return find_source(self.app, os.environ, Path.cwd()).spec


def actor() -> str:
    """Return who types, for the history of records."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a container without a name for its user
        return f"cli:{os.getuid()}"


def common_options(command: F) -> F:
    """Add the options that every command has; what a subcommand says wins over its group."""
    for option in (_DEBUG, _JSON, _DATABASE, _APP):
        command = option(command)
    return command


def json_option(command: F) -> F:
    """Add `--json` and `--debug` alone, for commands that need no app."""
    return _DEBUG(_JSON(command))


def _store(context: click.Context, parameter: click.Parameter, value: object) -> None:
    settings = context.ensure_object(Settings)
    if value and parameter.name:
        setattr(settings, parameter.name, value)


_APP = click.option(
    "-A",
    "--app",
    metavar="MODULE:NAME",
    expose_value=False,
    callback=_store,
    help=f"Your StateJobs, or a function that returns it. [{APP_VARIABLE}; "
    "or app under tool.statejobs in pyproject.toml]",
)
_DATABASE = click.option(
    "--database",
    metavar="URL",
    expose_value=False,
    callback=_store,
    help=f"Given to an app that is a function with a `database` parameter. [{DATABASE_VARIABLE}]",
)
_JSON = click.option(
    "--json",
    "as_json",
    is_flag=True,
    expose_value=False,
    callback=_store,
    help="Print one JSON document.",
)
_DEBUG = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    callback=_store,
    help="Show the traceback of an error.",
)
