"""What the pages draw and list is what the code declares."""

import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest

from statejobs import Event, Sources, StatefulResource, StateJobs, Trigger, WorkerSettings
from statejobs import errors as all_errors
from statejobs import metadata, mermaid, state_column, transition
from statejobs.context import BaseContext
from statejobs.domain.lifecycle import JOB_MACHINE
from tests.support.pages import PageRun, blocks_of

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DECLARATION = ROOT / "docs/reference/declaration.md"
APP = ROOT / "docs/reference/app.md"
JOB_STATES = ROOT / "docs/reference/job-states.md"


def drawn_in(page):
    [block] = [block for block in blocks_of(page) if block.language == "mermaid"]
    return block.text


def section(page, title):
    """Return the text under the heading that begins with *title*."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.split(rf"^#+ {re.escape(title)}.*\n", text, flags=re.MULTILINE)[1].split("\n## ")[0]


def first_cells(text):
    """Return the code in the first cell of each row of the tables in *text*."""
    return [name for row in re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
            for name in re.findall(r"`([^`]+)`", row)]  # fmt: skip


def options_of(function):
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.kind is not p.VAR_KEYWORD} - {"self", "cls"}


def test_the_readme_draws_its_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = PageRun(README)
    page.run()

    assert drawn_in(README) == mermaid(page.namespace["Order"].__machine__)


def test_the_readme_has_code_before_line_30():
    first = next(block for block in blocks_of(README) if block.language == "python")

    assert first.line < 30


def test_the_life_of_a_job_is_drawn():
    assert drawn_in(JOB_STATES) == mermaid(JOB_MACHINE)


def test_the_edges_of_a_job_are_listed():
    rows = [
        f"| `{edge.name}` | {', '.join(edge.sources)} | {edge.target} | {edge.doc} |"
        for edge in JOB_MACHINE.edges
    ]

    assert "\n".join(rows) in JOB_STATES.read_text()


@pytest.mark.parametrize(
    ("title", "function"),
    [
        ("`state_column`", state_column),
        ("`@transition`", transition),
        ("`Trigger.on_demand`", Trigger.on_demand),
        ("`@trigger.action`", Trigger.action),
    ],
)
def test_every_option_of_a_declaration_is_listed(title, function):
    assert set(first_cells(section(DECLARATION, title))) == options_of(function)


def test_every_error_class_is_listed():
    classes = {name for name, value in vars(all_errors).items() if inspect.isclass(value)}
    raised = {name for name in classes if name.endswith("Error")}

    assert set(first_cells(section(DECLARATION, "Errors"))) == raised


def test_every_public_part_of_a_context_is_listed():
    public = {name for name in vars(BaseContext) if not name.startswith("_")}

    assert public | {"session", "job", "now"} == set(first_cells(section(DECLARATION, "Contexts")))


def test_every_setting_is_listed_with_its_default():
    defaults = {
        name: getattr(WorkerSettings(), name) for name in (f.name for f in fields(WorkerSettings))
    }
    rows = re.findall(r"^\| `(\w+)` \| (\d+)", section(APP, "`WorkerSettings`"), re.MULTILINE)
    seconds = {name: getattr(value, "seconds", value) for name, value in defaults.items()}

    assert {name: int(number) for name, number in rows} == seconds


def test_every_argument_and_method_of_an_app_is_listed():
    listed = first_cells(section(APP, "`StateJobs`"))
    methods = {name for name in vars(StateJobs) if not name.startswith("_")}

    assert {name.partition("(")[0] for name in listed} >= methods | options_of(StateJobs)


def test_every_source_is_listed():
    assert set(first_cells(section(APP, "`Sources`"))) == {f.name for f in fields(Sources)}


def test_every_event_is_listed():
    assert first_cells(section(APP, "Events")) == [event.name for event in Event]


def test_every_column_of_every_table_is_listed():
    text = section(APP, "Tables")

    for table in metadata.sorted_tables:
        listed = first_cells(text.split(f"### `{table.name}`")[1].split("\n### ")[0])
        assert listed == [column.name for column in table.columns], table.name


def test_the_columns_of_a_record_are_listed():
    added = set(StatefulResource.__annotations__) - {n for n in vars(StatefulResource) if "__" in n}

    for name in {"state_version", "state_changed_at"} | {n for n in added if "__" not in n}:
        assert f"`{name}`" in DECLARATION.read_text()
