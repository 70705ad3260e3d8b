"""The page for those who know Ash and Oban: nothing is left out, and what it says is shown."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/explanation/from-ash-and-oban.md"
HAVE = {"have", "have, better"}
VERDICTS = HAVE | {"not yet", "not, because"}
RULES = 106
"""Rules that teams write down for jobs with AshOban."""
OPTIONS = {
    "J": 10,
    "I": 11,
    "U": 11,
    "X": 15,
    "B": 5,
    "Q": 10,
    "L": 9,
    "C": 12,
    "M": 7,
    "D": 3,
    "T": 12,
    "TE": 9,
    "OP": 6,
    "PR": 11,
    "W": 8,
    "A": 60,
    "S": 18,
}
"""Options of the others, by the letters under which the page has them."""
REFUSED = [
    "`suspended` jobs",
    "chains",
    "DAG workflows",
    "relay",
    "signals",
    "encryption at rest",
    "`@reboot`",
    "Erlang interop",
]
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def rows():
    """The rows of all tables but the first, which explains them: the text of each cell."""
    text = PAGE.read_text("utf-8").split("\n## ", 1)[1]
    found = re.findall(r"^\| (.*) \|$", text, flags=re.MULTILINE)
    cells = [re.split(r" (?<!\\)\| ", row) for row in found]
    return [row for row in cells if row[0] != "there"]


ROWS = rows()


@cache
def functions_of(file):
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


def codes_of(there):
    """`A27, A28 streaming` has two."""
    return re.findall(r"[A-Z]+\d+", re.match(r"([A-Z]+\d+,? )*", there)[0])


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_what_a_row_says_we_have_is_shown_by_tests_that_are_there(row):
    _, verdict, how, shown = (*row, "")[:4]

    assert verdict in VERDICTS
    assert how.strip()
    named = TEST.findall(shown)
    assert bool(named) == (verdict in HAVE)
    assert [
        f"{file}::{name}"
        for file, name in named
        if not (ROOT / file).is_file() or name not in functions_of(file)
    ] == []


def test_no_rule_is_left_out():
    numbers = [int(n) for row in ROWS for n in re.findall(r"^(\d+) ", row[0])]

    assert numbers == list(range(1, RULES + 1))


@pytest.mark.parametrize("letters", OPTIONS)
def test_no_option_is_left_out(letters):
    found = {code for row in ROWS for code in codes_of(row[0])}

    expected = {f"{letters}{n}" for n in range(1, OPTIONS[letters] + 1)}
    assert expected - found == set()


@pytest.mark.parametrize("words", REFUSED)
def test_what_we_refuse_is_said_with_its_reason(words):
    assert any(words in row[0] for row in ROWS if row[1] == "not, because")
