import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statejobs.values import failure
from statejobs.values.failure import (
    MESSAGE_LIMIT,
    TRACEBACK_LIMIT,
    describe_failure,
)
from statejobs.values.redaction import DEFAULT
from statejobs.values.text import clean_text, shown_text


def raised(error, cause=None):
    try:
        raise error from cause
    except BaseException as caught:  # noqa: BLE001
        return caught


def assert_storable(described):
    for text, limit in (
        (described.error_type, 200),
        (described.message, MESSAGE_LIMIT),
        (described.traceback, TRACEBACK_LIMIT),
    ):
        assert type(text) is str
        assert "\0" not in text
        assert len(text.encode()) <= limit


def test_reads_like_the_interpreter():
    described = describe_failure(raised(ValueError("no card"), KeyError("card")))

    assert (described.error_type, described.message) == ("ValueError", "no card")
    assert described.traceback.startswith(
        "KeyError: 'card'\n\nThe above exception was the direct"
    )
    assert "Traceback (most recent call last):\n  File" in described.traceback
    assert "in raised\n    raise error from cause" in described.traceback
    assert described.traceback.endswith("ValueError: no card\n")


class AppError(Exception):
    def __init__(self, act):
        super().__init__("app")
        self.act = act

    def __str__(self):
        return self.act()


class Text(str):
    __slots__ = ()

    def encode(self, *_args, **_kwargs):
        raise RuntimeError("no")

    def __len__(self):
        raise RuntimeError("no")


def _raise(error):
    raise error


def _recurse():
    return _recurse()


@pytest.mark.parametrize(
    "act",
    [
        lambda: _raise(ValueError("in str")),
        lambda: _raise(SystemExit(1)),
        lambda: _raise(MemoryError()),
        lambda: 42,
        lambda: None,
        lambda: b"bytes",
        lambda: Text("subclass"),
        lambda: "\0\ud800",
        _recurse,
    ],
    ids=[
        "raises",
        "exits",
        "memory",
        "int",
        "none",
        "bytes",
        "subclass",
        "unclean",
        "recurses",
    ],
)
def test_a_broken_str_keeps_type_and_traceback(act):
    described = describe_failure(raised(AppError(act)))

    assert_storable(described)
    assert described.error_type.endswith(".AppError")
    assert "in raised" in described.traceback


class Meta(type):
    def __getattribute__(cls, name):
        raise RuntimeError("no name")


class NamelessError(Exception, metaclass=Meta):
    pass


class NumberModuleError(Exception):
    pass


NumberModuleError.__module__ = 5


class LyingError(Exception):
    @property
    def __cause__(self):
        raise RuntimeError("no cause")

    @property
    def __notes__(self):
        raise RuntimeError("no notes")

    @property
    def __class__(self):
        raise RuntimeError("no class")


class LyingGroup(ExceptionGroup):
    @property
    def exceptions(self):
        return [1, 2]


ODD = {
    "nameless": lambda: NamelessError("x"),
    "number as module": lambda: NumberModuleError("x"),
    "lying": lambda: LyingError("x"),
    "lying group": lambda: LyingGroup("x", [ValueError()]),
    "long name": lambda: type("\u00e9" * 500, (Exception,), {})("x"),
    "not an Exception": KeyboardInterrupt,
    "bytes": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    "no error at all": lambda: "text",
    "none": lambda: None,
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_describes_anything(make):
    described = describe_failure(make())

    assert_storable(described)
    assert described.error_type


@pytest.mark.parametrize(
    "notes",
    [5, None, [1, None, "\0"], ["n"] * 10_000, [AppError(_recurse)]],
    ids=["int", "none", "mixed", "many", "broken"],
)
def test_odd_notes_do_not_matter(notes):
    error = raised(ValueError("x"))
    error.__notes__ = notes

    described = describe_failure(error)

    assert_storable(described)
    assert "ValueError: x" in described.traceback


def test_the_message_holds_the_notes():
    error = ValueError("no charge")
    error.add_note("while charging password=hunter2")

    message = describe_failure(error).message

    assert message.startswith("no charge\nwhile charging")
    assert "hunter2" not in message


def test_notes_are_kept():
    error = ValueError("x")
    error.add_note("while charging")

    assert describe_failure(error).traceback == "ValueError: x\nwhile charging\n"


def test_a_group_shows_its_members():
    described = describe_failure(
        ExceptionGroup("both", [ValueError("a"), raised(KeyError("b"))])
    )

    assert described.message == "both (2 sub-exceptions)"
    assert "  | ValueError: a\n" in described.traceback
    assert "  | KeyError: 'b'\n" in described.traceback


def test_chains_groups_and_cycles_are_bounded():
    error = ValueError("leaf")
    for _ in range(60):
        error = ExceptionGroup("g", [error, ValueError("m" * 20_000)])
    for n in range(1_000):
        error = raised(ValueError(str(n)), error)
    cycle = ValueError("cycle")
    cycle.__cause__ = KeyError("inner")
    cycle.__cause__.__cause__ = cycle

    assert_storable(describe_failure(error))
    assert_storable(
        describe_failure(ExceptionGroup("wide", [ValueError("m" * 9_000)] * 5_000))
    )
    assert describe_failure(cycle).traceback.count("cycle") == 1


def test_survives_a_full_stack():
    def dive():
        try:
            dive()
        except RecursionError as error:
            described.append(describe_failure(error))
            raise

    described = []
    with pytest.raises(RecursionError):
        dive()

    for each in described[:: max(1, len(described) // 50)]:
        assert_storable(each)
    assert described[-1].error_type == "RecursionError"


@pytest.mark.parametrize(
    "part",
    [
        "x",
        "\0",
        "\ud800",
        "\U0001f600",
        "line\n",
        "password=",
        "://a:",
        "token",
        '"',
        "\\'",
        "a@",
    ],
    ids=ascii,
)
def test_ten_megabytes_take_no_seconds(part):
    error = raised(
        ValueError(part * (10_000_000 // len(part))), KeyError(part * 100_000)
    )
    begin = time.process_time()

    described = describe_failure(error)

    assert time.process_time() - begin < 2
    assert_storable(described)


def test_a_long_text_keeps_head_and_tail_and_says_what_is_missing():
    text = "".join(random.Random(1).choices("abc\u00e9", k=300_000))

    cut = clean_text(text, 1_000)

    head, marker, tail = cut.split("\n")
    assert text.startswith(head)
    assert text.endswith(tail)
    assert marker == f"... {300_000 - len(head) - len(tail)} characters left out ..."
    assert 900 < len(cut.encode()) <= 1_000


@given(st.text(st.characters(), max_size=400), st.integers(-1, 300))
def test_clean_text_is_bounded_utf8_without_nul(text, limit):
    for cut in (clean_text(text, limit), shown_text(text, limit)):
        assert len(cut.encode()) <= max(limit, 0)
        assert "\0" not in cut


def test_clean_text_spells_out_what_no_database_takes():
    assert clean_text("a\0b\ud800c", 100) == "a\u2400b\\ud800c"
    assert clean_text(AppError(lambda: 3), 100).startswith("(unprintable ")
    assert clean_text(12, 100) == "12"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("password=hunter2 user=bob", "password=*** user=bob"),
        ("DB_PASSWORD: hunter2", "DB_PASSWORD: ***"),
        ("api-key = hunter2&x=1", "api-key = ***&x=1"),
        ('{"access_token": "hun\\"ter2", "n": 1}', '{"access_token": ***, "n": 1}'),
        ("{'secret': 'hunter2'}", "{'secret': ***}"),
        ("{'secret': b'hunter2'}", "{'secret': ***}"),
        ('{\\"passwd\\": \\"hunter2\\"}', '{\\"passwd\\": ***}'),
        ("Authorization: Bearer hunter2", "Authorization: ***"),
        ("postgresql://bob:hunter2@db/shop", "postgresql://bob:***@db/shop"),
        ("redis://:hunt@er2@db", "redis://:***@db"),
        ("the word password alone", "the word password alone"),
        ("http://host:80/path", "http://host:80/path"),
    ],
)
def test_secrets_are_masked(text, shown):
    assert shown_text(text, 1_000) == shown
    described = describe_failure(raised(ValueError(text)))
    assert described.message == shown
    assert (
        "hunter2"
        not in describe_failure(raised(KeyError("x"), ValueError(text))).traceback
    )


def test_locals_are_never_captured():
    def charge():
        card = "4111" + "1111"
        raise ValueError(len(card))

    try:
        charge()
    except ValueError as error:
        described = describe_failure(error)

    assert "41111111" not in described.traceback


@pytest.mark.parametrize(
    "name", ["password", "api_key", "apiKey", "db_passwd", "AUTHORIZATION"]
)
def test_secret_names(name):
    assert DEFAULT.hides(name)
    assert not DEFAULT.hides("amount")


def test_the_fixed_fallback_holds_when_everything_breaks(monkeypatch):
    monkeypatch.setattr(failure, "shown_text", lambda *_: _raise(SystemExit(1)))

    described = describe_failure(ValueError("x"))

    assert described.error_type == "UnknownError"
