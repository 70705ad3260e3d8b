"""What a person sees who installs the package."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

import statejobs

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def names(lines):
    return {Requirement(line).name for line in lines}


def test_the_package_says_which_version_it_is():
    assert statejobs.__version__.count(".") == 2
    assert PROJECT["dynamic"] == ["version"]


def test_neither_tests_nor_a_picture_are_needed_to_run_jobs():
    assert not {"rich", "pytest", "hypothesis"} & names(PROJECT["dependencies"])


def test_everything_for_users_brings_no_tools_of_tests():
    (everything,) = EXTRAS["all"]
    brought = [names(EXTRAS[extra]) for extra in Requirement(everything).extras]

    assert not {"pytest", "hypothesis"} & set.union(*brought)


def test_recipes_import_from_the_top_or_from_a_public_module():
    public = {"statejobs", "statejobs.alembic", "statejobs.events"}
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    lines = [line for page in pages for line in page.read_text().splitlines()]
    imported = {line.split()[1] for line in lines if line.startswith("from statejobs")}

    assert imported <= public
