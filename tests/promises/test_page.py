"""Every promise has a line in `docs/guarantees.md`, and every link there leads somewhere."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "guarantees.md").read_text()


def test_every_link_leads_to_a_file():
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)

    assert links
    assert [link for link in links if not (DOCS / link).is_file()] == []


def test_every_promise_is_named_once():
    named = [int(number) for number in re.findall(r"\*\*P(\d+)\. ", PAGE)]

    assert sorted(named) == [*range(1, 9), *range(11, 18), 19, 20, 21, *range(23, 30)]
