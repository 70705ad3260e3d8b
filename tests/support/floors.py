"""Prints, as constraints for pip, the lowest versions that pyproject.toml allows a user."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
OF_USERS = ("postgres", "async", "demo")


def floors():
    """Return `name==version` for each package that a user gets."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = list(project["dependencies"])
    for extra in OF_USERS:
        lines += project["optional-dependencies"][extra]
    return [f"{name}=={version}" for name, version in map(_floor, lines) if version]


def _floor(line):
    requirement = Requirement(line)
    lowest = [part.version for part in requirement.specifier if part.operator == ">="]
    return requirement.name, lowest[0] if lowest else None


if __name__ == "__main__":
    print("\n".join(floors()))  # noqa: T201
