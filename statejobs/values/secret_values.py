"""Where the value of a secret ends in a text: of a literal, brackets, a call, an expression.

A text is no language, so what is in doubt counts as the value. Each character is read once: whoever
looks for the next name goes on where a value ends.
"""

from __future__ import annotations

import re
from re import Match

MASK = "***"

_PREFIX = "[bruftBRUFT]{0,2}"
LITERAL_BEGINS = rf"""{_PREFIX}\\{{0,4}}["']"""
_QUOTE = re.compile(rf"""{_PREFIX}(?P<slashes>\\{{0,4}})(?P<quote>\"\"\"|'''|"|')""")
_REST = {
    '"': re.compile(r"""(?:[^"\\\n]|\\.)*+"?"""),
    "'": re.compile(r"""(?:[^'\\\n]|\\.)*+'?"""),
}
_CLOSES = {
    (count, quote): re.compile(rf"(?<!\\)\\{{{count}}}{quote}|\n")
    for count in (1, 2, 3, 4)
    for quote in "\"'"
}
_OF_GROUP = re.compile(r"""\\{0,4}["']|[\[\](){}]""")
_PLAIN = re.compile(r"""[^\s"'&;\[({]+""")
_SCHEME = re.compile(r"(?:bearer|basic|digest|token)[ \t]{1,5}", re.IGNORECASE)
_GOES_ON = re.compile(r"[ \t]{0,5}(?:=(?!=)|\+|%|\||or\b|and\b|if\b|else\b)[ \t]{0,5}")
_NEXT_LITERAL = re.compile(rf"[ \t]{{1,5}}(?={LITERAL_BEGINS})")
_LINE = re.compile(r"[^\n]*")
_OPEN = "[({"
_CLOSED = "])}"


def end_of_value(text: str, start: int) -> int:
    """Return where the value ends that begins at *start*, with all that is added to it."""
    end = _end_of_part(text, start)
    while more := _GOES_ON.match(text, end):
        following = _end_of_part(text, more.end())
        if following == more.end():
            break
        end = following
    return end


def end_of_word(text: str, start: int) -> int:
    """Return where a literal or a word ends that begins at *start*, whatever stands behind it."""
    quote = _QUOTE.match(text, start)
    if quote is not None:
        return _end_of_literal(text, quote)
    word = re.compile(r"""[^\s"'&;]+""").match(text, start)
    return word.end() if word else start


def end_of_header(text: str, start: int, quote: str) -> int:
    """Return where the value of a header ends, which is all of its line; or of its *quote*."""
    line = _LINE.match(text, start)
    end = line.end() if line else start
    closing = text.find(quote, start, end) if quote else -1
    return end if closing < 0 else closing


def _end_of_part(text: str, start: int) -> int:
    """Return where one operand ends: literals side by side, brackets, or a word with its calls."""
    if text.startswith(MASK, start):
        return start + len(MASK)
    end = start
    quote = _QUOTE.match(text, start)
    while quote is not None:
        end = _end_of_literal(text, quote)
        gap = _NEXT_LITERAL.match(text, end)
        quote = _QUOTE.match(text, gap.end() if gap else end)
    if end == start and text[start : start + 1] in _OPEN:
        end = _end_of_group(text, start)
    elif end == start:
        scheme = _SCHEME.match(text, start)
        return _end_of_run(text, scheme.end() if scheme else start)
    return _end_of_run(text, end) if text[end : end + 1] in {".", "[", "("} else end


def _end_of_run(text: str, start: int) -> int:
    end = start
    while end < len(text):
        plain = _PLAIN.match(text, end)
        if plain is not None:
            end = plain.end()
        elif text[end] in _OPEN:
            end = _end_of_group(text, end)
        else:
            break
    return end


def _end_of_group(text: str, start: int) -> int:
    """Return where the bracket at *start* is closed; the end of the text where it is not."""
    depth = 0
    end = start
    while found := _OF_GROUP.search(text, end):
        end = found.end()
        sign = found[0]
        if sign in _OPEN:
            depth += 1
        elif sign in _CLOSED:
            depth -= 1
            if depth == 0:
                return end
        elif (quote := _QUOTE.match(text, found.start())) is not None:
            end = _end_of_literal(text, quote)
    return len(text)


def _end_of_literal(text: str, quote: Match[str]) -> int:
    """Return where a literal ends; one of a single line at the end of its line."""
    start = quote.end()
    sign = quote["quote"]
    slashes = quote["slashes"]
    if len(sign) > 1:
        closing = text.find(sign, start)
        return len(text) if closing < 0 else closing + len(sign)
    if slashes:
        closed = _CLOSES[len(slashes), sign].search(text, start)
        if closed is None:
            return len(text)
        return closed.start() if closed[0] == "\n" else closed.end()
    rest = _REST[sign].match(text, start)
    return rest.end() if rest else start
