"""What is hidden in everything that leaves the process: history, errors, logs, the command line.

Stored arguments of jobs are never touched, or the jobs would break; whoever shows them hides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from re import Match, Pattern
from typing import Any

from statejobs.errors import ConfigurationError
from statejobs.values.secret_values import (
    LITERAL_BEGINS,
    MASK,
    end_of_header,
    end_of_value,
    end_of_word,
)

_KEYS = r"(?:api|access|private|signing|encryption)[_\s-]?key"
_USUAL = (
    rf"passw(?:or)?d|pass[_\s-]?phrase|pwd|secret(?!ar)|token|{_KEYS}|credential|authorization"
    "|cookie"
)
_SESSION = "(?<!pos)(?<!ob)session"
"""Hidden in arguments and messages, and not in lines of code, which speak of other sessions."""
_BETWEEN = re.compile(r"[_\s-]+")
_NAME_BEFORE = re.compile(r"[\w-]{0,80}\Z")
_NAME_AFTER = re.compile(r"[\w-]{0,80}")
_NAME_IN_PAIR = re.compile(r"""["']([\w-]+)\\{0,4}["']""")
# Every repeat is bounded or cannot be re-entered: a message of an attacker must not cost seconds.
_URL_PASSWORD = re.compile(r"""(://[^\s:/@"']{0,200}:)[^\s"'/]{1,500}@""")
_DATABASE_PASSWORD = re.compile(
    r"""((?:postgres|mysql|mariadb|oracle|mssql|sqlite)[a-z0-9+]{0,40}://[^\s:/@"']{0,200}:)"""
    r"""[^\s"']{1,500}@"""
)
"""People forget to quote a `/` or `@` in it."""
_HOST_PASSWORD = re.compile(r"""(\bhost(?: name)? ["'])[^\s"'@]{1,500}@""")
"""Where libpq took the end of an unquoted password for the beginning of the host's name."""
_PASSWORD_OPTION = re.compile(r"""(\bpassword=)(?!\*\*\*)[^\s&'"]{1,500}""")
_PRIVATE_KEY = re.compile(
    r"(-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----)(?:[^-]|-(?!----)){1,20000}"
)


@dataclass(frozen=True, kw_only=True)
class Redaction:
    """What is hidden, beside the values of passwords, tokens, keys, credentials and sessions.

    A word hides each argument, and each `name=value` in a text, in whose name it stands.
    """

    hide: tuple[str, ...] = ()
    """Words such as `iban`; `card_number` also is `cardNumber` and `card-number`."""
    show: tuple[str, ...] = ()
    """Whole names that are shown although such a word stands in them, such as `token_count`."""

    def __post_init__(self) -> None:
        """Refuse what would hide everything, or nothing."""
        for item in fields(self):
            words = getattr(self, item.name)
            is_list = isinstance(words, Iterable) and not isinstance(words, str)
            if not is_list or not all(map(_is_word, words)):
                raise ConfigurationError(
                    f"Redaction({item.name}={words!r}) is no list of words",
                    why="each is looked for in the names of arguments",
                    fix=f'write {item.name}=("card_number",): names, or parts of them',
                )
            object.__setattr__(self, item.name, tuple(words))

    def hides(self, name: str) -> bool:
        """Return whether an argument of this name is not shown."""
        return self._in_names.search(name) is not None and not self._is_shown(name)

    def text(self, text: str) -> str:
        """Return *text* without what stands after the name of a secret, and passwords of URLs."""
        return self._without(self._in_text, text)

    def code(self, text: str) -> str:
        """Return lines of source without secrets that are written there."""
        return self._without(self._in_code, text)

    @cached_property
    def _in_names(self) -> Pattern[str]:
        return re.compile(self._words(_SESSION), re.IGNORECASE)

    @cached_property
    def _in_text(self) -> Pattern[str]:
        return _secret_value(self._words(_SESSION))

    @cached_property
    def _in_code(self) -> Pattern[str]:
        return _secret_value(self._words())

    @cached_property
    def _shown(self) -> frozenset[str]:
        return frozenset(map(_plain_name, self.show))

    def _words(self, *more: str) -> str:
        own = (
            r"[_\s-]?".join(map(re.escape, _BETWEEN.split(word))) for word in self.hide
        )
        return f"(?:{'|'.join((_USUAL, *more, *own))})"

    def _without(self, secrets: Pattern[str], text: str) -> str:
        text = self._without_named(secrets, _PRIVATE_KEY.sub(rf"\1{MASK}", text))
        return _URL_PASSWORD.sub(rf"\1{MASK}@", without_passwords(text))

    def _without_named(self, secrets: Pattern[str], text: str) -> str:
        parts: list[str] = []
        at = 0
        while found := secrets.search(text, at):
            end = _end_of(found)
            is_secret = end > found.end() and not (
                self.show and self._is_shown(_whole_name(found))
            )
            parts += (
                text[at : found.end()],
                MASK if is_secret else text[found.end() : end],
            )
            at = end
        return "".join((*parts, text[at:]))

    def _is_shown(self, name: str) -> bool:
        return bool(self.show) and _plain_name(name) in self._shown


def redaction_of(given: Redaction | Iterable[str] | None) -> Redaction:
    """Return what an app was given; words alone are hidden beside the usual."""
    if given is None:
        return DEFAULT
    if isinstance(given, Redaction):
        return given
    words: Any = given
    is_list = isinstance(words, Iterable) and not isinstance(words, str)
    return Redaction(hide=tuple(words) if is_list else words)


def without_passwords(text: str) -> str:
    """Return *text*, which is ours but for the address of a database, without its password."""
    text = _DATABASE_PASSWORD.sub(rf"\1{MASK}@", text)
    return _HOST_PASSWORD.sub(rf"\1{MASK}@", _PASSWORD_OPTION.sub(rf"\1{MASK}", text))


@lru_cache(maxsize=64)
def strictest(redactions: frozenset[Redaction]) -> Redaction:
    """Return one that hides whatever one of *redactions* hides."""
    if len(redactions) < 2:  # noqa: PLR2004
        return next(iter(redactions), DEFAULT)
    shown = (frozenset(map(_plain_name, r.show)) for r in redactions)
    return Redaction(
        hide=tuple(sorted({word for r in redactions for word in r.hide})),
        show=tuple(sorted(frozenset.intersection(*shown))),
    )


def _secret_value(word: str) -> Pattern[str]:
    """Match what stands before the value of a secret, where *word* is in the name.

    Those are `name=`, `"name": `, `["name"] = `, `("name", ` and `--name `.
    """
    sign = r"(?::=|=>|!=|={1,3}|:)"
    assigned = rf"""{word}[\w-]{{0,40}}\\{{0,4}}["']?(?:[ ]{{0,5}}\])?\s{{0,5}}{sign}\s{{0,5}}"""
    option = rf"(?<![\w-])--?[\w-]{{0,40}}?{word}[\w-]{{0,40}}[ \t]{{1,5}}(?![-:=|\]])"
    named = rf"""{LITERAL_BEGINS}[\w-]{{0,40}}?{word}[\w-]{{0,40}}\\{{0,4}}["']"""
    pair = rf"\(\s{{0,5}}{named}\s{{0,5}},\s{{0,5}}(?={LITERAL_BEGINS})"
    return re.compile(
        rf"(?P<pair>{pair})|(?P<option>{option})|{assigned}", re.IGNORECASE
    )


def _end_of(found: Match[str]) -> int:
    """Return where the value ends whose name was found."""
    text = found.string
    before = found[0]
    start = found.end()
    if found["option"] or "\n" in before:  # words of a command, or of another line
        return end_of_word(text, start)
    if _HEADER.match(before) and not _NO_HEADER.match(text, start):
        opening = _QUOTE_BEFORE.search(text, max(found.start() - 80, 0), found.start())
        return end_of_header(text, start, opening[1] if opening else "")
    return end_of_value(text, start)


_HEADER = re.compile(r"(?:authorization|cookie)s?\s{0,5}[:=]", re.IGNORECASE)
_NO_HEADER = re.compile(rf"\*\*\*|{LITERAL_BEGINS}|[\[({{]")
_QUOTE_BEFORE = re.compile(r"""(\\{0,4}["'])[\w-]{0,80}\Z""")


def _whole_name(found: Match[str]) -> str:
    """Return the name in which a secret word was found."""
    if found["pair"]:
        (name,) = _NAME_IN_PAIR.findall(found[0])
        return str(name)
    before = _NAME_BEFORE.search(
        found.string, max(found.start() - 80, 0), found.start()
    )
    after = _NAME_AFTER.match(found[0].lstrip("-"))
    return f"{before[0] if before else ''}{after[0] if after else ''}"


def _plain_name(name: str) -> str:
    return _BETWEEN.sub("", name).lower()


def _is_word(word: object) -> bool:
    return isinstance(word, str) and re.search(r"\w", word) is not None


DEFAULT = Redaction()
"""Hides what every app hides that says nothing of it."""
