"""Writes the README's first listing into a directory: what it runs, and what it must print."""

import sys
from itertools import pairwise
from pathlib import Path

from tests.support.pages import blocks_of

ROOT = Path(__file__).parents[2]


def write_listing(directory):
    """Write `listing.py` and `listing.txt` into *directory*."""
    code, output = next(
        pair
        for pair in pairwise(blocks_of(ROOT / "README.md"))
        if pair[1].language == "output"
    )
    (directory / "listing.py").write_text(code.text)
    (directory / "listing.txt").write_text(output.text)


if __name__ == "__main__":
    write_listing(Path(sys.argv[1]))
