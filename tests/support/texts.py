"""Texts that no database and few logs can hold."""


class Liar(str):
    """A text that lies about itself."""

    __slots__ = ()

    def __str__(self):
        return "\0"

    def encode(self, *_args, **_kwargs):
        raise RuntimeError("not today")

    def replace(self, *_args, **_kwargs):
        raise RuntimeError("not today")


class NoText:
    """Something that is no text, and cannot be made one."""

    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


WORDS = {
    "nul": "bad file a\0b",
    "only-nul": "\0",
    "surrogate": "bad file \udcff",
    "both": "\0\ud800\0",
    "five-megabytes": "x" * 5_000_000,
    "five-megabytes-of-others": "é\0" * 2_500_000,
    "liar": Liar("a\0b"),
    "bytes": b"\xff\0",
    "number": 7,
    "no-text": NoText(),
}
"""Name → what somebody gave as a reason, or as a name."""
