"""What commands print, byte for byte: as text in a pipe and on terminals, and as `--json`.

After a change that is meant, write them anew with STATEJOBS_WRITE_PAGES=1: read the difference.
"""

import io
import os
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from sqlalchemy import make_url

from statejobs.cli.main import cli
from statejobs.store.engines.addresses import shown_url
from tests.cli.gallery import fill

PAGES = Path(__file__).parent / "pages"
LOOKS = [
    "status",
    "queue list",
    "job list",
    "job list --limit 3",
    "job list --state failed --state discarded",
    "job list --state completed --queue work",
    "job list --key leaflet.render",
    "job list --resource task --record 3",
    "job list --state scheduled --queue slow",
    "job list --outcome stale --outcome crashed",
    "job list --outcome stalled",
    "job list --queue wrok",
    "job list --queue works",
    "job list --key task.prform",
    "job list --resource Taks",
    *(f"job show {number}" for number in range(1, 22)),
    *(f"record show Task {number}" for number in (1, 3, 4, 6, 7, 8, 11, 12)),
    "record show task 99",
    "record show Task x",
    "record show Tusk 1",
    "record show Crate 1",
    "record show Parcel box%207",
    "record show Parcel box%208",
    "record show Parcel Kiste%20Ä\x1b[31m",
    *(
        f"record show {kind} {number}"
        for kind in ("Leaflet", "Poster")
        for number in (1, 2)
    ),
    "diagram",
    "diagram Task",
    "diagram job",
    "diagram Jb",
    "db check",
    "prune --older-than 30d --dry-run",
    "job errors",
    "job errors --since 1h",
    "job errors --since yesterday",
    "job list --tag a",
    "job list --error RuntimeError --older-than 1h",
    "job list --state completed --older-than 9w",
    "job retry",
    "job retry 3 --state failed",
    "job retry 3 9 --dry-run",
    "job retry --state discarded --dry-run",
    "job retry --state discarded --error TimeoutError",
    "job cancel --queue work",
    "job cancel --queue wrog --yes",
    "job delete --queue work --dry-run",
    "job edit 5",
    "job edit 5 --run-at tomorrow",
    "job edit 5 --to-queue solw",
]
ACTS = [
    "job retry 3 99 1 10",
    "job retry 6",
    "job retry 11",
    "job cancel 4 5 12",
    "job cancel 2 --reason the%20customer%20rang",
    "job list",
    "job show 3",
    "record show Task 2",
    "record show Task 3",
    "record show Task 7",
    "status",
    "job edit 4 5 10 --priority 1 --to-queue slow",
    "job edit --queue work --run-at 2030-01-31T08:00Z --yes",
    "job retry --state discarded --state cancelled --yes",
    "job cancel --queue slow --reason spring%20cleaning --yes",
    "job delete 1 10",
    "job delete --older-than 1h --yes",
    "job delete --queue default --yes",
    "job list",
]


class Screen(io.StringIO):
    """Standard output as a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def shop(monkeypatch):
    """Fills a database, and lets commands find it in their environment."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STATEJOBS_APP", "tests.cli.gallery:make_app")
    monkeypatch.setenv("LOGNAME", "ada")
    with ExitStack() as stack:

        def filled(url):
            monkeypatch.setenv("STATEJOBS_DATABASE", url)
            stack.enter_context(fill(url))
            return url

        yield filled


@pytest.mark.parametrize(("form", "added"), [("plain", []), ("json", ["--json"])])
def test_commands_write_the_same_bytes_into_a_pipe_as_ever(
    shop, database_url, form, added
):
    url = shop(database_url)

    told = [typed(line, added) for line in [*LOOKS, *ACTS]]

    compare(as_page("".join(told), url), form)


@pytest.mark.parametrize("columns", ["80", "120"])
def test_commands_write_the_same_bytes_to_a_terminal_as_ever(
    shop, sqlite_url, columns, monkeypatch
):
    url = shop(sqlite_url)
    monkeypatch.setenv("COLUMNS", columns)

    told = [typed(line, stream=Screen) for line in [*LOOKS, *ACTS]]

    compare(as_page("".join(told), url), f"{columns}-columns")


def compare(page, name):
    """Compare *page* with the one that is kept under *name*."""
    file = PAGES / f"{name}.txt"
    if os.environ.get("STATEJOBS_WRITE_PAGES"):
        file.write_text(page, encoding="utf-8")
    assert page == file.read_text(encoding="utf-8")


def typed(line, added=(), stream=io.StringIO):
    """Run one command; return its words, what it said on both streams, and its exit code."""
    words = [word.replace("%20", " ") for word in line.split(" ")]
    with (
        redirect_stdout(stream()) as out,
        redirect_stderr(io.StringIO()) as err,
        pytest.raises(SystemExit) as ended,
    ):
        cli([*words, *added], prog_name="statejobs")
    return f"$ {line}\n{out.getvalue()}{err.getvalue()}exit {int(ended.value.code)}\n\n"


def as_page(text, database):
    """Return *text* with the same words on both databases, and escapes that can be seen."""
    for theirs, ours in (
        (shown_url(make_url(database)), "DATABASE"),
        ('relation "crates" does not exist', "no such table: crates"),
        ('relation \\"crates\\" does not exist', "no such table: crates"),
        ("\x1b", "␛"),
    ):
        text = text.replace(theirs, ours)
    return text
