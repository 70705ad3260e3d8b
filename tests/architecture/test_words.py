"""One word for each thing, and one thing for each word, as the glossary says."""

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

import statejobs

PACKAGE = Path(statejobs.__file__).parent
GLOSSARY = PACKAGE.parent / "docs" / "glossary.md"

# Where a word that the glossary refuses means something else.
MEANT_OTHERWISE = {
    "status": {
        "cli/status.py": "the command that says how things stand",
        "people/status.py": "its answer",
    },
    "event": {
        "events.py": "what is told to whoever subscribes",
        "telemetry.py": "the same",
        "runner/joblog.py": "the same",
        "machine/kernel.py": "the word of the `transitions` library",
    },
    "message": {
        "people/history.py": "of an error",
        "people/job_errors.py": "of an error",
        "people/jobs.py": "of an error",
        "runner/refused.py": "of an error",
        "runner/trouble.py": "of the log",
        "store/failed.py": "of an error",
        "store/finish.py": "of an error",
        "values/failure.py": "of an error",
    },
    "handler": {"cli/logs.py": "of logging"},
    "listener": {
        "runner/worker.py": "of the channel on which a database wakes workers",
        "store/engines/factory.py": "the same",
        "store/engines/postgres.py": "the same",
        "store/engines/wake.py": "the same",
        "store/engines/hearing.py": "of the events of an engine",
        "store/engines/witness.py": "the same",
        "record/listening.py": "of the events of a Session",
    },
    "object": {
        "values/arguments.py": "of JSON",
        "record/old_doors.py": "of a method of SQLAlchemy",
    },
}


def rows():
    """The rows of both tables: words, meaning, and what is not said in their place."""
    for line in GLOSSARY.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and cells[0] != "word" and not cells[0].startswith("-"):
            yield [word.strip("` ") for word in cells[0].split(",")], *cells[1:]


@cache
def trees():
    """The syntax tree of each file."""
    files = sorted(PACKAGE.rglob("*.py"))
    return {
        path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text("utf-8"))
        for path in files
    }


@cache
def names():
    """Each name that the package gives to something → the files that give it."""
    found = defaultdict(set)
    for file, tree in trees().items():
        for name in {Path(file).stem, *_named_in(tree)}:
            found[name].add(file)
    return found


def _named_in(tree):
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.name
            case ast.arg():
                yield node.arg
            case ast.Name(ctx=ast.Store()):
                yield node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node.attr


def words_in(name):
    """`JobStatus` and `job_status` are two words each; the plural is the same word."""
    found = {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}
    return found | {word.removesuffix("s") for word in found}


@pytest.fixture(scope="module")
def used():
    """Each word of the code → the files in whose names it is."""
    found = defaultdict(set)
    for name, files in names().items():
        for word in words_in(name):
            found[word] |= files
    return found


NOT = sorted(
    {word.strip() for *_, refused in rows() for word in refused.split(",") if word}
)


@pytest.mark.parametrize("word", NOT)
def test_the_code_has_no_second_word_for_a_thing(word, used):
    assert used[word] <= set(MEANT_OTHERWISE.get(word, ()))


def test_every_other_meaning_is_still_met(used):
    for word, files in MEANT_OTHERWISE.items():
        assert set(files) <= used[word], word


@pytest.mark.parametrize("word", [w for words, *_ in rows() for w in words])
def test_the_code_speaks_the_words_of_the_glossary(word, used):
    stems = {word, word.removesuffix("ed"), word[:5], *words_in(word)}

    assert any(spoken.startswith(stem) for spoken in used for stem in stems)


def test_no_two_classes_share_a_name():
    files = defaultdict(list)
    for file, tree in trees().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                files[node.name].append(file)

    assert {name: where for name, where in files.items() if len(where) > 1} == {}


def test_why_is_said_of_errors_only():
    """The reason of a job, a move or a refusal is called that."""
    others = {
        (file, function.name)
        for file, tree in trees().items()
        if file.startswith(("people", "record", "runner", "store", "work"))
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        and "why" in set(_named_in(function))
        and "why=why" not in ast.unparse(function)
    }

    assert others == set()
