"""Tables and paragraphs: no word is broken, nothing is cut, and every line fits that can."""

import pytest

from statejobs.cli.layout import cells, folded, table

ROW = [
    "7",
    "failed",
    "invoice.pay",
    "Invoice 0190a5f4-8b1c-7c3d-9e2f-0123456789ab",
    "ValueError: the card was declined by the bank, so nothing was paid",
]
HEADERS = ["id", "state", "key", "record", "reason"]


def printed(room, rows=(ROW,), below=("reason", "record")):
    lines = table(HEADERS, rows, room, ["id"], below)
    return ["".join(text for text, _ in line).rstrip() for line in lines]


def test_what_fits_is_one_line():
    header, line = printed(None)

    assert line.split("  ")[-1].endswith("nothing was paid")
    assert header.index("reason") == line.index("ValueError")


@pytest.mark.parametrize("room", [120, 80, 60, 50])
def test_what_is_too_wide_goes_below_its_row_at_words(room):
    lines = printed(room)

    assert all(cells(line) <= max(room, 50) for line in lines)
    words = " ".join(lines).split()
    assert all(word in words for cell in ROW for word in cell.split())


def test_a_long_key_takes_one_line():
    assert "    record  Invoice 0190a5f4-8b1c-7c3d-9e2f-0123456789ab" in printed(60)


def test_only_what_does_not_fit_goes_below():
    header, row, *below = printed(80)

    assert "record" in header
    assert ROW[3] in row
    assert below[0].split()[0] == "reason"


def test_what_is_narrow_stays_where_something_wide_has_left():
    header, _, *below = printed(50, below=("key", "record", "reason"))

    assert "key" in header
    assert [line.split()[0] for line in below if line[4] != " "] == ["record", "reason"]


def test_empty_cells_take_no_line_below():
    assert len(printed(60, rows=[[*ROW[:4], ""]])) == 3


@pytest.mark.parametrize(
    ("text", "room", "lines"),
    [
        ("one two three", 7, ["one two", "three"]),
        ("averylongword two", 5, ["averylongword", "two"]),
        ("", 5, [""]),
        ("one", None, ["one"]),
        ("  indented text here", 15, ["  indented text", "here"]),
        ("次の 文字", 5, ["次の", "文字"]),
    ],
)
def test_a_paragraph_is_folded_at_words(text, room, lines):
    assert folded(text, room) == lines


@pytest.mark.parametrize(
    ("text", "number"),
    [("abc", 3), ("次の", 4), ("e\u0301", 1), ("\U0001f468", 2), ("", 0)],
)
def test_cells_are_counted_as_a_terminal_does(text, number):
    assert cells(text) == number
