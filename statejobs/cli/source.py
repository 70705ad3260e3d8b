"""Finds the app: --app, then STATEJOBS_APP, then [tool.statejobs] of the nearest pyproject.toml.

One above the current directory counts only if nobody else may have written it.
"""

from __future__ import annotations

import inspect
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from statejobs.app import StateJobs
from statejobs.cli.owners import is_ours_alone
from statejobs.cli.problems import Exit, Problem, where_raised
from statejobs.errors import StateJobsError, did_you_mean
from statejobs.store.engines.factory import parse_url
from statejobs.values.article import indefinite
from statejobs.values.failure import first_line

APP_VARIABLE = "STATEJOBS_APP"
DATABASE_VARIABLE = "STATEJOBS_DATABASE"
_KEYS = ("app",)
"""What `[tool.statejobs]` may hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the app is, and who said so."""

    spec: str
    """`module:attribute`."""
    origin: str
    directory: Path | None = None
    """The directory of the pyproject.toml that named it."""


def find_source(
    flag: str | None, environ: Mapping[str, str], directory: Path
) -> Source:
    """Return the first place that names an app.

    Raises:
        Problem: None does; the message lists what was tried.
    """
    if flag:
        return Source(spec=flag, origin="--app")
    if named := environ.get(APP_VARIABLE):
        return Source(spec=named, origin=APP_VARIABLE)
    places = (directory, *directory.parents)
    file = next(
        (p / "pyproject.toml" for p in places if (p / "pyproject.toml").is_file()), None
    )
    if file is not None and file.parent != directory and not is_ours_alone(file):
        raise Problem(
            f"{file} is not used: others than you may have written it",
            "an app that it names would be imported, and so run; in a directory above the current "
            "one it must be yours, and writable by nobody else, and so must its directory",
            "say --app, or go to the directory that holds it",
            Exit.USAGE,
        )
    if file is not None and (named := _read_spec(file)):
        return Source(
            spec=named, origin=f"[tool.statejobs] of {file}", directory=file.parent
        )
    third = (
        f"no [tool.statejobs] app in {file}"
        if file
        else f"no pyproject.toml above {directory}"
    )
    raise Problem(
        "which app? None is named",
        f"no --app; no {APP_VARIABLE}; {third}",
        'statejobs … --app shop:jobs, or write app = "shop:jobs" under [tool.statejobs]',
        Exit.USAGE,
    )


def load_app(source: Source, database: str | None, directory: Path) -> StateJobs:
    """Import the app of *source*; the current directory is searched first.

    Args:
        source: Where it is.
        database: A URL to use in place of the app's own.
        directory: The current directory.

    Raises:
        Problem: It cannot be imported, or is not a StateJobs.
    """
    module_name, _, attribute = source.spec.partition(":")
    for place in (source.directory, directory):
        if place is not None and str(place) not in sys.path:
            sys.path.insert(0, str(place))
    module = _import(module_name, source)
    found = _attribute(module, attribute, source)
    if isinstance(found, StateJobs):
        return _refuse_other_database(found, database, source)
    if callable(found) and not isinstance(found, type):
        return _call(found, database, source)
    raise Problem(
        f"{source.spec} is {indefinite(type(found).__name__)}, not an app",
        f"{source.origin} must name a StateJobs, or a function that returns one",
        f"statejobs … --app {_suggest(module)}",
        Exit.USAGE,
    )


def _read_spec(file: Path) -> str | None:
    try:
        settings = tomllib.loads(file.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Problem(
            f"cannot read {file}",
            first_line(error),
            "mend the file, or say --app",
            Exit.USAGE,
        ) from error
    table: Any = settings.get("tool", {}).get("statejobs", {})
    spec = table.get("app") if isinstance(table, dict) else None
    for key in table if isinstance(table, dict) else ():
        if key not in _KEYS:
            raise Problem(
                f"[tool.statejobs] of {file}: no setting {key!r}; {did_you_mean(key, _KEYS)}",
                "a setting that is silently ignored would not do what it says",
                "correct the name, or leave it out",
                Exit.USAGE,
            )
    if spec is not None and not isinstance(spec, str):
        raise Problem(
            f"[tool.statejobs] of {file}: app is not text",
            f"it is {spec!r}",
            'app = "module:attribute"',
            Exit.USAGE,
        )
    return spec


def _import(name: str, source: Source) -> ModuleType:
    if not name or name.startswith(".") or "/" in name or name.endswith(".py"):
        dotted = name.removesuffix(".py").strip("./").replace("/", ".") or "module"
        raise Problem(
            f"{source.spec!r} does not name an app",
            f"{source.origin} must be module:attribute, with dots and without .py",
            f"statejobs … --app {dotted}:jobs",
            Exit.USAGE,
        )
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (
            name == error.name or name.startswith(error.name + ".")
        ):
            raise _broken(name, error) from error
        raise Problem(
            f"no module {error.name!r}",
            f"{source.origin} says {source.spec}; looked in {Path.cwd()} and on sys.path",
            "go to the directory that holds it, install it, or correct the name",
            Exit.USAGE,
        ) from error
    except StateJobsError:
        raise
    except Exception as error:
        raise _broken(name, error) from error


def _broken(name: str, error: Exception) -> Problem:
    return Problem(
        f"importing {name!r} failed: {type(error).__name__}: {first_line(error)}",
        f"raised in {where_raised(error)}",
        "the same with --debug, for the traceback",
        Exit.USAGE,
    )


def _attribute(module: ModuleType, path: str, source: Source) -> Any:
    if not path:
        raise Problem(
            f"{source.spec!r} names a module, not an app in it",
            f"{source.origin} must be module:attribute",
            f"statejobs … --app {_suggest(module)}",
            Exit.USAGE,
        )
    found: Any = module
    for name in path.split("."):
        if not hasattr(found, name):
            raise Problem(
                f"no {name!r} in {module.__name__}; {did_you_mean(name, _candidates(module))}",
                f"{source.origin} says {source.spec}",
                f"statejobs … --app {_suggest(module)}",
                Exit.USAGE,
            )
        found = getattr(found, name)
    return found


def _suggest(module: ModuleType) -> str:
    return f"{module.__name__}:{next(iter(_candidates(module)), 'jobs')}"


def _candidates(module: ModuleType) -> list[str]:
    """Return what may be meant: apps, then functions that the module defines."""
    content = vars(module).items()
    apps = [name for name, value in content if isinstance(value, StateJobs)]
    functions = [
        name
        for name, value in content
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and name[0] != "_"
    ]
    return apps + functions


def _refuse_other_database(
    app: StateJobs, database: str | None, source: Source
) -> StateJobs:
    if database is None or parse_url(database) == app.engine.url:
        return app
    raise Problem(
        f"{source.spec} has its database already, so another cannot be given",
        "it is a StateJobs; only a function that takes `database` can be told which",
        "leave --database and STATEJOBS_DATABASE out, or name a function: "
        "def make_app(database: str = …) -> StateJobs",
        Exit.USAGE,
    )


def _call(make: Any, database: str | None, source: Source) -> StateJobs:
    keywords = _keywords(make)
    needed = [name for name, is_needed in keywords.items() if is_needed]
    if database is not None and "database" not in keywords:
        raise Problem(
            f"{source.spec} cannot be told which database to use",
            "its function takes no `database`",
            "leave --database and STATEJOBS_DATABASE out, or add the parameter",
            Exit.USAGE,
        )
    given = {} if database is None else {"database": database}
    missing = [name for name in needed if name not in given]
    if missing:
        fix = (
            "statejobs … --database sqlite:///app.db"
            if missing == ["database"]
            else None
        )
        raise Problem(
            f"{source.spec} needs {', '.join(missing)}",
            "a function that makes an app is called with nothing, or with `database`",
            fix or "give its parameters defaults",
            Exit.USAGE,
        )
    try:
        app = make(**given)
    except StateJobsError:
        raise
    except Exception as error:
        raise _broken(source.spec, error) from error
    if isinstance(app, StateJobs):
        return app
    raise Problem(
        f"{source.spec}() returned {indefinite(type(app).__name__)}",
        "it must return a StateJobs",
        "return the app, or name another function",
        Exit.USAGE,
    )


def _keywords(make: Any) -> dict[str, bool]:
    """Return the parameters that can be given by name or must be given → whether they must."""
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):  # a builtin
        return {}
    return {
        p.name: p.default is p.empty
        for p in parameters
        if p.kind not in {p.VAR_POSITIONAL, p.VAR_KEYWORD}
    }
