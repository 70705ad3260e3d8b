"""What the database returns for a key that it is sent: the one value that names a record."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CHAR,
    NCHAR,
    REAL,
    Boolean,
    Date,
    DateTime,
    Dialect,
    Enum,
    Float,
    Integer,
    LargeBinary,
    Numeric,
    String,
    Time,
    Uuid,
)
from sqlalchemy.dialects.postgresql import DOMAIN
from sqlalchemy.types import NullType, TypeDecorator, TypeEngine

Kind = TypeEngine[Any]
_SINGLE = 24
"""Most binary digits of a number that PostgreSQL keeps as `real`."""


def as_returned(kind: Kind, value: Any, dialect: Dialect) -> Any:
    """Return what *dialect* returns for *value* from a column of *kind*.

    Raises:
        Exception: It is no value of that type; whatever code of the user's raises.
    """
    kind = type_on(kind, dialect)
    if isinstance(kind, TypeDecorator):
        if has_own(kind, "process_bind_param"):
            value = kind.process_bind_param(value, dialect)
        stored = as_returned(kind.load_dialect_impl(dialect), value, dialect)
        has_result = has_own(kind, "process_result_value")
        return kind.process_result_value(stored, dialect) if has_result else stored
    return _form_of(kind)(kind, value, dialect)


def type_on(kind: Kind, dialect: Dialect) -> Kind:
    """Return the type that a column of *kind* has on *dialect*: its variant there, if it has one.

    Not `dialect_impl`, which makes the same of CHAR and VARCHAR.
    """
    found = kind._variant_mapping.get(dialect.name, kind)  # noqa: SLF001 - told by no public name
    return type_on(found.data_type, dialect) if isinstance(found, DOMAIN) else found


def why_no_key(kind: Kind, dialect: Dialect) -> str | None:
    """Return why a key of *kind* could have two texts on *dialect*; None where it has one."""
    kind = type_on(kind, dialect)
    if isinstance(kind, TypeDecorator):
        if any(has_own(kind, name) for name in _PAST_PYTHON):
            return "its values are changed on a way that cannot be followed"
        return why_no_key(kind.load_dialect_impl(dialect), dialect)
    if _form_of(kind) is _unknown and not isinstance(kind, NullType):
        # of a key known later
        return "nobody can tell in which form the database returns such a value"
    return _why_rounded(kind)


def has_own(kind: Kind, name: str) -> bool:
    """Return whether a type of the user's has a method *name* of its own."""
    return getattr(type(kind), name) is not getattr(TypeDecorator, name)


def _why_rounded(kind: Any) -> str | None:
    match kind:
        case REAL():
            return "the database rounds such a number"
        case Float() if 0 < (kind.precision or 0) <= _SINGLE:
            return "the database rounds such a number"
        case Time() if kind.timezone:
            return "one time has a text for each time zone"
        case DateTime() | Time() if getattr(kind, "precision", None) is not None:
            return "the database rounds such a time"
        case _:
            return None


_PAST_PYTHON = (
    "bind_processor",
    "result_processor",
    "bind_expression",
    "column_expression",
)
"""Methods of a type that change values elsewhere than in `process_…`."""


def _boolean(_kind: Kind, value: Any, _dialect: Dialect) -> bool:
    if value not in {0, 1}:
        raise ValueError(value)
    return bool(value)


def _member(kind: Kind, value: Any, dialect: Dialect) -> Any:
    there = kind.dialect_impl(dialect)
    send = there.bind_processor(dialect)
    read = there.result_processor(dialect, None)
    sent = value if send is None else send(value)
    return sent if read is None else read(sent)


def _integer(_kind: Kind, value: Any, _dialect: Dialect) -> int:
    number = int(value)
    if not isinstance(value, str) and number != value:
        raise ValueError(value)
    return number


def _uuid(kind: Any, value: Any, _dialect: Dialect) -> UUID | str:
    uuid = value if isinstance(value, UUID) else UUID(_text_of(value))
    return uuid if kind.as_uuid else str(uuid)


def _text(kind: Any, value: Any, dialect: Dialect) -> str:
    text = str(int(value)) if isinstance(value, int) else _text_of(value)
    if dialect.name == "sqlite" or kind.length is None:
        return text
    if isinstance(kind, CHAR | NCHAR):
        text = text.ljust(kind.length)
    # PostgreSQL cuts off blanks, and only those, where they are too many.
    return text[: kind.length] if not text[kind.length :].strip(" ") else text


def _text_of(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return str.__str__(value)  # of a subclass too, such as an enum's member


def _float(kind: Any, value: Any, dialect: Dialect) -> Any:
    if kind.asdecimal:
        return (
            _member(kind, value, dialect)
            if dialect.name == "sqlite"
            else _decimal(value)
        )
    return float(_decimal(value)) + 0.0  # there is no other zero


def _number(kind: Any, value: Any, dialect: Dialect) -> Any:
    number = _decimal(value)
    if kind.scale is not None:
        number = number.quantize(Decimal(1).scaleb(-kind.scale), rounding=ROUND_HALF_UP)
    if not kind.asdecimal:
        return float(f"{number:.15g}") + 0.0
    if dialect.name != "sqlite":
        return number
    digits = kind.decimal_return_scale
    scale = digits if digits is not None else kind.scale
    return Decimal(f"{float(number):.{10 if scale is None else scale}f}")


def _decimal(value: Any) -> Decimal:
    number = Decimal(repr(value) if isinstance(value, float) else value)
    if not number.is_finite():
        raise ValueError(value)
    return (
        Decimal(format(number, "f")) + 0 if not number else Decimal(format(number, "f"))
    )


def _date(_kind: Kind, value: Any, _dialect: Dialect) -> date:
    if isinstance(value, str):
        return date.fromisoformat(value)
    return date(value.year, value.month, value.day)


def _instant(kind: Any, value: Any, dialect: Dialect) -> datetime:
    instant = datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(instant, datetime):
        raise TypeError(value)
    keeps_zone = kind.timezone and dialect.name != "sqlite"
    if (instant.tzinfo is not None) is not keeps_zone:
        raise ValueError(
            f"on {dialect.name} it has {'a' if keeps_zone else 'no'} time zone "
            "(statejobs.UtcDateTime keeps instants on every database)"
        )
    return instant.astimezone(UTC) if keeps_zone else _as_sqlite(kind, instant, dialect)


def _time(kind: Any, value: Any, dialect: Dialect) -> time:
    moment = time.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(moment, time) or moment.tzinfo is not None:
        raise TypeError(value)
    left: time = _as_sqlite(kind, moment, dialect)
    return left


def _as_sqlite(kind: Kind, value: Any, dialect: Dialect) -> Any:
    """Return what is left of a time in the format in which SQLite stores it."""
    return _member(kind, value, dialect) if dialect.name == "sqlite" else value


def _bytes(_kind: Kind, value: Any, _dialect: Dialect) -> bytes:
    return bytes(memoryview(value))


def _unknown(kind: Kind, _value: Any, _dialect: Dialect) -> Any:
    raise TypeError(kind)


_Form = Callable[[Any, Any, Dialect], Any]
_FORMS: tuple[tuple[type[Kind], _Form], ...] = (
    (Boolean, _boolean),
    (Enum, _member),
    (Integer, _integer),
    (Uuid, _uuid),
    (String, _text),
    (Float, _float),
    (Numeric, _number),
    (DateTime, _instant),
    (Date, _date),
    (Time, _time),
    (LargeBinary, _bytes),
)
"""The first that fits: an `Enum` is a `String` too, and a `Float` once was a `Numeric`."""


def _form_of(kind: Kind) -> _Form:
    return next((form for base, form in _FORMS if isinstance(kind, base)), _unknown)
