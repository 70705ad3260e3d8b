"""Writes declared options where people read them: signatures, docstrings, tables of the reference.

`python -m tests.support.written_options`, of which `make fix` is made, writes; a test compares.
"""

import ast
import textwrap
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path

from statejobs.values.job_options import JobOptions
from statejobs.values.option import Option, options_of
from statejobs.values.options import TaskOptions, TriggerOptions
from statejobs.values.scheduled_options import ScheduledOptions
from statejobs.values.scheduled_trigger_options import ScheduledTriggerOptions
from statejobs.values.unique import Unique
from tests.support.written_waits import waits_written

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/reference/declaration.md"
WORDS = ROOT / "statejobs/declare/schedule_words.py"
_TABLE = "| option | default | meaning |\n|---|---|---|\n"


@dataclass(frozen=True)
class Door:
    """A function that takes the options of a declaration by name, and where a page lists them."""

    file: str
    function: str | None
    """None: the declaration itself is what users write."""
    takes: type
    heading: str
    beside: type | None = None
    """Whose options another door explains already."""

    @property
    def path(self) -> Path:
        """The file in which it is."""
        return ROOT / "statejobs" / self.file


DOORS = (
    Door(
        "declare/trigger.py", "on_demand", TriggerOptions, "## `Trigger.on_demand(key"
    ),
    Door(
        "declare/trigger.py",
        "scheduled",
        ScheduledTriggerOptions,
        "## `Trigger.scheduled(key",
        beside=TriggerOptions,
    ),
    Door("declare/task.py", "task", TaskOptions, "## `@task(key"),
    Door(
        "declare/scheduled_action.py",
        "scheduled_action",
        ScheduledOptions,
        "## `@scheduled_action(key",
    ),
    Door("declare/task.py", "options", JobOptions, "## `.options("),
    Door("declare/action_on_class.py", "options", JobOptions, "## `.options("),
    Door("values/unique.py", None, Unique, "## `Unique("),
)


def explained(door: Door) -> list[Field]:
    """Return the options that are listed where the declaration is explained."""
    others = {} if door.beside is None else options_of(door.beside)
    return [
        field
        for field in fields(door.takes)
        if field.name not in others or not field.kw_only
    ]


def signature_written(source: str, door: Door) -> str:
    """Return *source* with each option that is given by name among the parameters."""
    if door.function is None:
        return source
    function = _function(source, door)
    arguments = function.args.kwonlyargs
    if function.args.kwarg is not None:
        return source  # they are words
    first, last = arguments[0].lineno, arguments[-1].end_lineno
    lines = source.splitlines(keepends=True)
    # A default may end below its annotation: the parameters end where the parenthesis closes.
    while not lines[last].lstrip().startswith(")"):
        last += 1
    indent = " " * arguments[0].col_offset
    written = [
        f"{indent}{field.name}: {_annotation(door.takes, field.name)}"
        f"{_default(door.takes, field)},\n"
        for field in fields(door.takes)
        if field.kw_only
    ]
    return "".join([*lines[: first - 1], *written, *lines[last:]])


def words_written(source: str) -> str:
    """Return *source* with each option that is given by name as a word of the TypedDict."""
    (words,) = [
        node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)
    ]
    docstring, *_ = words.body
    written = [
        f"    {field.name}: {_word(field)}\n"
        for field in fields(ScheduledTriggerOptions)
        if field.kw_only
    ]
    lines = source.splitlines(keepends=True)
    return "".join([*lines[: docstring.end_lineno], "\n", *written])


def _word(field: Field) -> str:
    annotation = _annotation(ScheduledTriggerOptions, field.name)
    return f"Required[{annotation}]" if field.default is MISSING else annotation


def docstring_written(source: str, door: Door) -> str:
    """Return *source* with the meaning of each option under `Args:` in the docstring."""
    if door.function is None:
        return source
    lines = source.splitlines(keepends=True)
    docstring = _function(source, door).body[0]
    place = range(docstring.lineno, docstring.end_lineno)
    start = next(n for n in place if lines[n].strip() == "Args:") + 1
    end = next(n for n in place if n >= start and not lines[n].strip())
    indent = " " * (docstring.col_offset + 4)
    defaults = {field.name: field for field in fields(door.takes)}
    written = [
        textwrap.fill(
            f"{name}: {_sentences(option, defaults[name])}",
            width=100,
            initial_indent=indent,
            subsequent_indent=f"{indent}    ",
            break_on_hyphens=False,
        )
        + "\n"
        for name, option in options_of(door.takes).items()
        if defaults[name] in explained(door)
    ]
    return "".join([*lines[:start], *written, *lines[end:]])


def table_written(page: str, door: Door) -> str:
    """Return *page* with a row for each option in the first table under its heading."""
    start = page.index(_TABLE, page.index(f"\n{door.heading}")) + len(_TABLE)
    end = page.index("\n\n", start) + 1
    options = options_of(door.takes)
    rows = [
        f"| `{field.name}` | {_shown(field, options[field.name].shown)} "
        f"| {options[field.name].doc} |\n"
        for field in explained(door)
    ]
    return page[:start] + "".join(rows) + page[end:]


def _function(source: str, door: Door) -> ast.FunctionDef:
    return next(
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef) and node.name == door.function
    )


def _annotation(declaration: type, name: str) -> str:
    """Return what is written as the type of a field, without what is noted beside it."""
    owner = next(cls for cls in declaration.__mro__ if name in cls.__annotations__)
    annotated = ast.parse(owner.__annotations__[name], mode="eval").body
    written = ast.unparse(annotated.slice.elts[0])
    if options_of(declaration)[name].by_domain and not written.endswith("| None"):
        return f"{written} | None"
    return written


def _shown(field: Field, shown: str | None) -> str:
    if field.default is MISSING:
        return "required"
    if shown is not None and not shown.endswith(")"):
        return shown
    return "`{}`".format(shown or repr(field.default).replace("'", '"'))


def _default(declaration: type, field: Field) -> str:
    left_out = _left_out(declaration, field)
    return "" if left_out is MISSING else f" = {left_out!r}"


def _left_out(declaration: type, field: Field) -> object:
    """Return what an option is when it is left out: None where the domain has a say."""
    return None if options_of(declaration)[field.name].by_domain else field.default


def _sentences(option: Option, field: Field) -> str:
    meaning = f"{option.doc[0].upper()}{option.doc[1:]}."
    if option.by_domain:
        return f"{meaning} Default: its domain's, or {_shown(field, option.shown)}."
    return f"{meaning} Default: {option.shown}." if option.shown else meaning


def write() -> None:
    """Write what is declared into the functions that take it, and into the page."""
    for door in DOORS:
        source = docstring_written(door.path.read_text(), door)
        door.path.write_text(signature_written(source, door))
        PAGE.write_text(table_written(PAGE.read_text(), door))
    WORDS.write_text(words_written(WORDS.read_text()))
    PAGE.write_text(waits_written(PAGE.read_text()))


if __name__ == "__main__":
    write()
