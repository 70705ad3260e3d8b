"""Every Python block of the README and of docs/ runs, and prints what the page says."""

import sys
from pathlib import Path

import pytest

from tests.support.pages import PageRun, blocks_of

ROOT = Path(__file__).parents[2]
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if "_build" not in page.parts
    and any(b.language == "python" for b in blocks_of(page))
]


@pytest.fixture
def empty_directory(tmp_path, monkeypatch):
    """The current directory; modules that a page saves there can be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if (tmp_path / f"{name.partition('.')[0]}.py").exists():
            del sys.modules[name]


@pytest.mark.parametrize(
    "page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES]
)
@pytest.mark.usefixtures("empty_directory")
def test_the_code_of_a_page_does_what_the_page_says(page):
    PageRun(page).run()
