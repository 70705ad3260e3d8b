"""What steers a terminal, or forges a line, when it is printed as it is."""

import re

CORPUS = {
    "title": "\x1b]0;pwned\x07",
    "clear": "\x1b[2J\x1b[H",
    "clipboard": "\x1b]52;c;cHduZWQ=\x1b\\",
    "eight-bit": "\x9b2J\x9d0;pwned\x9c",
    "device": "\x1bP+q544e\x1b\\",
    "overwrite": "all is well\rpwned",
    "rub-out": "pwned\x08\x08\x7f\x7f",
    "line": "no\n2030-01-01T00:00:00.000Z INFO 1 statejobs.jobs: job 7 forged",
    "other-lines": "no\u2028job 7 forged\u2029\x0bjob 7 forged\x85job 7 forged\x0c",
    "turned": "\u202ederongi si siht\u2066",
    "unseen": "pay\u200bpal\ufeff\u2060",
    "tags": "\U000e0041\U000e0042",
    "lone": "\ud800",
}
ALL = " ".join(CORPUS.values())

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ACTING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)


def acting_characters(written):
    """What is left in *written* of characters that act, but for colours and ends of lines."""
    return _ACTING.findall(_COLOUR.sub("", written).replace("\r\n", "\n"))
