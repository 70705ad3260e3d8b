"""What the pages draw and list is what the code declares."""

import inspect
import re
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import pytest

import statejobs
from statejobs import (
    Enqueued,
    Sources,
    StateJobs,
    Trigger,
    WorkerSettings,
    errors,
    mermaid,
    metadata,
    state_column,
    transition,
)
from statejobs.declare.chunk import ChunkContext
from statejobs.declare.context import BaseContext
from statejobs.events import JobEnded
from statejobs.values.lifecycle import JOB_MACHINE
from tests.support.events import EVENTS
from tests.support.pages import PageRun, blocks_of
from tests.support.written_waits import waits_written

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DECLARATION = ROOT / "docs/reference/declaration.md"
APP = ROOT / "docs/reference/app.md"
JOB_STATES = ROOT / "docs/reference/job-states.md"


def drawn_in(page):
    (block,) = [block for block in blocks_of(page) if block.language == "mermaid"]
    return block.text


def rows_of(page, title):
    """Return the cells of all tables under the heading of *page* that begins with *title*."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    under = re.split(rf"^#+ {re.escape(title)}", text, flags=re.MULTILINE)[1]
    level = "\n### " if page is APP and title.startswith("`statejobs_") else "\n## "
    rows = re.findall(r"^\| (.*) \|$", under.split(level)[0], flags=re.MULTILINE)
    return [[cell.strip() for cell in row.split(" | ")] for row in rows]


def names_in(page, title):
    """Return the code in the first cells, in order."""
    return [
        name
        for row in rows_of(page, title)
        for name in re.findall(r"`([^`]+)`", row[0])
    ]


def options_of(function):
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD}


def public_names(cls):
    ours = [base for base in cls.__mro__ if base.__module__.startswith("statejobs")]
    return {name for base in ours for name in vars(base) if not name.startswith("_")}


def test_the_readme_draws_its_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = PageRun(README)
    page.run()

    assert drawn_in(README) == mermaid(page.namespace["Order"].__machine__)


def test_the_readme_shows_code_before_line_30():
    first = next(block for block in blocks_of(README) if block.language == "python")

    assert first.line < 30


def test_the_life_of_a_job_is_drawn():
    assert drawn_in(JOB_STATES) == mermaid(JOB_MACHINE)


def test_every_edge_of_a_job_is_listed():
    rows = [
        f"| `{edge.name}` | {', '.join(edge.sources)} | {edge.target} | {edge.doc} |"
        for edge in JOB_MACHINE.edges
    ]

    assert "\n".join(rows) in JOB_STATES.read_text()


@pytest.mark.parametrize(
    ("title", "function"),
    [
        ("`state_column", state_column),
        ("`@transition", transition),
        ("`@trigger.action", Trigger.action),
    ],
)
def test_every_option_of_a_declaration_is_listed_with_its_default(title, function):
    options = {
        name: value for name, value in options_of(function).items() if name != "self"
    }
    listed = {
        row[0].strip("`"): row[1].strip("`") for row in rows_of(DECLARATION, title)
    }

    assert list(options) == [name for name in listed if name in options]
    for name, default in options.items():
        required = default is inspect.Parameter.empty
        shown = "required" if required else repr(default).replace("'", '"')
        assert listed[name] == shown


def test_the_waits_of_twenty_attempts_are_those_of_the_code():
    page = DECLARATION.read_text()
    attempts = [row[0] for row in rows_of(DECLARATION, "How long it waits")[1:]]

    assert attempts == [str(attempt) for attempt in range(1, 21)]
    assert waits_written(page) == page, "say make fix"


def test_every_outcome_of_an_enqueue_is_listed():
    assert {outcome.name for outcome in Enqueued} <= set(
        names_in(DECLARATION, "`@trigger.action")
    )


def test_every_error_class_is_listed():
    classes = {name for name, value in vars(errors).items() if inspect.isclass(value)}

    assert set(names_in(DECLARATION, "Errors")) == {
        n for n in classes if n.endswith("Error")
    }
    assert set(names_in(DECLARATION, "Errors")) <= set(statejobs.__all__)


def test_every_part_of_a_context_is_listed():
    listed = set(names_in(DECLARATION, "Contexts"))

    assert listed == public_names(BaseContext) | {"session", "job", "now"}


def test_every_part_of_the_context_of_a_chunk_is_listed():
    listed = set(names_in(DECLARATION, "`ChunkContext"))
    named = {name.partition("(")[0] for name in listed}

    assert named == public_names(ChunkContext) | {"session", "jobs", "now"}


def test_every_argument_and_method_of_an_app_is_listed():
    listed = {name.partition("(")[0] for name in names_in(APP, "`StateJobs")}

    assert listed == public_names(StateJobs) | options_of(StateJobs).keys()


def test_every_setting_is_listed_with_its_default():
    shown = {row[0].strip("`"): row[1] for row in rows_of(APP, "`WorkerSettings")[1:]}

    for item in fields(WorkerSettings):
        default = item.default
        seconds = (
            f"{default.seconds} s" if isinstance(default, timedelta) else str(default)
        )
        assert shown.get(item.name) == seconds


def test_every_source_is_listed():
    assert names_in(APP, "`Sources`") == [item.name for item in fields(Sources)]


def test_every_event_is_listed_with_its_fields_and_when_it_happens():
    listed = [row for row in rows_of(APP, "Events") if len(row) == 3][1:]

    assert listed == [
        [
            f"`{event.__name__}`",
            " ".join(inspect.getdoc(event).split()),
            ", ".join(f"`{name}`" for name in event.__struct_fields__) or "none",
        ]
        for event in EVENTS
    ]


def test_every_field_of_the_end_of_a_job_is_explained():
    listed = [row for row in rows_of(APP, "Events") if len(row) == 2][1:]

    assert [name.strip("`") for name, _ in listed] == [*JobEnded.__struct_fields__]


@pytest.mark.parametrize("table", metadata.sorted_tables, ids=str)
def test_every_column_of_a_table_is_listed(table):
    assert names_in(APP, f"`{table.name}`") == [column.name for column in table.columns]
