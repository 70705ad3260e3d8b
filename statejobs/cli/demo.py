"""`demo`: runs the order example that comes with statejobs."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.resources import files
from pathlib import Path

import click

from statejobs.cli.problems import Exit, Problem
from statejobs.cli.settings import Settings, json_option

EXAMPLE = "order_flow"


@click.command()
@click.option(
    "--orders",
    default=200,
    show_default=True,
    type=click.IntRange(1),
    help="How many orders.",
)
@click.option(
    "--seed",
    default=1,
    show_default=True,
    help="Fixes what customers order and what the payment service answers; the timing stays free.",
)
@click.option("--plain", is_flag=True, help="Plain lines, no moving screen.")
@click.option(
    "--database",
    metavar="URL",
    default=None,
    help="An empty database to run on.  [default: a SQLite file that is removed]",
)
@json_option
@click.pass_obj
def demo(
    settings: Settings, orders: int, seed: int, database: str | None, *, plain: bool
) -> int:
    """Run the order example: payments that fail, and a worker to kill.

    It names the process that runs the jobs: kill it, and watch them recover. The demo needs no
    app, and minds neither STATEJOBS_APP nor STATEJOBS_DATABASE.

    \b
    Examples:
      statejobs demo
      statejobs demo --database postgresql://user:password@host/name --orders 1000
    """  # noqa: D301
    directory = str(_find_examples())
    if directory not in sys.path:
        sys.path.insert(0, directory)
    run_demo = import_module(f"{EXAMPLE}.demo").run_demo
    code: int = run_demo(
        database=database
        or settings.database,  # said before or after `demo`; never a variable
        orders=orders,
        seed=seed,
        plain=plain,
        as_json=settings.as_json,
    )
    return code


def _find_examples() -> Path:
    """Return the directory of the examples: inside the wheel, or beside the package."""
    package = Path(str(files("statejobs")))
    places = (package / "_examples", package.parent / "examples")
    for place in places:
        if (place / EXAMPLE / "demo.py").is_file():
            return place
    raise Problem(
        "the example is not installed",
        f"no {EXAMPLE}/demo.py in {' or '.join(map(str, places))}",
        "pip install --force-reinstall statejobs",
        Exit.USAGE,
    )
