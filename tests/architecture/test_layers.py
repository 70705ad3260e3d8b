"""The import contracts of pyproject.toml: the package keeps them, and each one bites."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"][
    "importlinter"
]["contracts"]
LAYERS = "A layer imports only downward"
UNDER_TYPE_CHECKING = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import statejobs.cli
"""

# What is wrong → the contract that must notice, and what to write into which file.
VIOLATIONS = {
    "an upper layer": (LAYERS, {"store/smuggled.py": "import statejobs.app"}),
    "an upper layer, as a type": (LAYERS, {"store/smuggled.py": UNDER_TYPE_CHECKING}),
    "a sibling layer": (LAYERS, {"machine/smuggled.py": "import statejobs.store"}),
    "a module in no layer": (LAYERS, {"utils.py": ""}),
    "a cycle": (
        "Modules inside a package form no cycle",
        {
            "values/egg.py": "import statejobs.values.hen",
            "values/hen.py": "import statejobs.values.egg",
        },
    ),
    "a declaration in the runner": (
        "The runner has never heard of a declaration, nor of a record",
        {"runner/smuggled.py": "import statejobs.declare.task"},
    ),
    "a thread in the values": (
        "Values are pure",
        {"values/smuggled.py": "import threading"},
    ),
    "transitions": (
        "Only the kernel knows transitions",
        {"machine/smuggled.py": "import transitions"},
    ),
    "croniter": (
        "Only the fields of a cron expression know croniter",
        {"values/smuggled.py": "import croniter"},
    ),
    "alembic": (
        "Only the schema and the command line know Alembic",
        {"store/smuggled.py": "import alembic"},
    ),
    "rich": ("Only the demo knows rich", {"runner/smuggled.py": "import rich"}),
    "psycopg": (
        "Only one module knows psycopg",
        {"store/smuggled.py": "import psycopg"},
    ),
}


@pytest.fixture
def package(tmp_path):
    """A copy of the package, to write into."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    unwanted = shutil.ignore_patterns("__pycache__")
    return shutil.copytree(ROOT / "statejobs", tmp_path / "statejobs", ignore=unwanted)


def test_the_package_keeps_every_contract(package):
    report = lint_imports(package)

    assert broken_contracts(report) == [], report


@pytest.mark.parametrize(("contract", "files"), VIOLATIONS.values(), ids=VIOLATIONS)
def test_a_contract_notices(package, contract, files):
    for name, source in files.items():
        (package / name).write_text(source)

    assert contract in broken_contracts(lint_imports(package))


def test_every_contract_is_seen_to_break():
    assert {contract["name"] for contract in CONTRACTS} == {
        name for name, _ in VIOLATIONS.values()
    }


def lint_imports(package):
    """What import-linter prints about *package*."""
    result = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=package.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Contracts:" in result.stdout, result.stdout + result.stderr
    return result.stdout


def broken_contracts(report):
    """Names of the contracts that *report* calls broken."""
    return re.findall(r"^(.+) BROKEN\b", report, flags=re.MULTILINE)
