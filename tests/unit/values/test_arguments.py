"""Annotations here are real objects, not text, so that test-local classes resolve."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic.alias_generators import to_camel

from statejobs.errors import ArgumentsError, DefinitionError
from statejobs.values.argument_values import MOST_BYTES, MOST_DEPTH
from statejobs.values.arguments import Signature
from statejobs.values.shown_arguments import encode_lossy

BERLIN = ZoneInfo("Europe/Berlin")


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Size(IntEnum):
    S = 1
    L = 2


class Mood(StrEnum):
    OK = "ok"


class Right(Flag):
    READ = 1
    WRITE = 2


@dataclass
class Money:
    amount: Decimal
    currency: str = "EUR"


@dataclass(frozen=True, eq=False)
class Tree:
    value: Any
    leaves: list["Tree"] = field(default_factory=list)


class Point(NamedTuple):
    x: int
    y: float = 0.0


class Options(TypedDict):
    coupon: str
    level: NotRequired[int]


class Item(msgspec.Struct, rename="camel", omit_defaults=True):
    item_id: int
    tags: frozenset[str] = frozenset()


class Address(pydantic.BaseModel):
    street: str
    since: datetime | None = None
    extra: Any = None


def signature_for(annotation):
    def action(value):
        pass

    action.__annotations__["value"] = annotation
    return Signature.of(action, name="order.charge", skip=0)


def round_trip(annotation, value):
    signature = signature_for(annotation)
    text = signature.encode({"value": value})
    assert text == signature.encode({"value": value})
    assert "\0" not in text
    text.encode()
    return signature.decode(text)["value"]


def refusal(annotation, value):
    with pytest.raises(ArgumentsError) as caught:
        round_trip(annotation, value)
    assert caught.value.parameter == "value"
    return caught.value.problem


# --- Everything either comes back equal, or is refused --------------------------------------

INTS = st.integers() | st.sampled_from([2**63, -(2**63) - 1, 2**64, 2**70, 10**4000])
TEXT = st.text(st.characters(), max_size=20)  # surrogates and NUL included
KEYS = TEXT | st.integers() | st.booleans() | st.none()
AWARE = st.datetimes(timezones=st.timezones() | st.just(UTC) | st.none())
SCALARS = (
    st.none()
    | st.booleans()
    | INTS
    | st.floats()
    | TEXT
    | st.binary(max_size=9)
    | AWARE
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.decimals()
    | st.uuids()
    | st.sampled_from([*Color, *Size, *Mood, *Right])
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.builds(Tree, inner)
        | st.builds(Address, street=st.just("x"), extra=inner)
        | st.frozensets(
            st.integers() | st.text() | st.floats() | st.booleans(), max_size=3
        )
    ),
    max_leaves=8,
)
TYPED = {
    "int": (int, INTS),
    "float": (float, st.floats()),
    "str": (str, TEXT),
    "bool": (bool, st.booleans()),
    "bytes": (bytes, st.binary()),
    "datetime": (datetime, AWARE),
    "date": (date, st.dates() | AWARE),
    "time": (time, st.times()),
    "timedelta": (timedelta, st.timedeltas()),
    "decimal": (Decimal, st.decimals() | st.just(Decimal("sNaN"))),
    "uuid": (UUID, st.uuids()),
    "enum": (Color, st.sampled_from([*Color, "red"])),
    "int enum": (Size, st.sampled_from([*Size, 1])),
    "optional": (int | None, st.none() | INTS),
    "list": (list[float], st.lists(st.floats() | st.integers())),
    "sequence": (Sequence[int], st.lists(INTS) | st.tuples(INTS)),
    "tuple": (tuple[int, ...], st.lists(INTS).map(tuple)),
    "dict": (dict[str, Any], st.dictionaries(KEYS, SCALARS)),
    "mapping": (Mapping[str, int], st.dictionaries(TEXT, INTS)),
    "set": (set[str], st.sets(TEXT)),
    "frozenset": (
        frozenset[Any],
        st.frozensets(st.integers() | st.floats() | st.text()),
    ),
    "set of enum": (set[Color], st.sets(st.sampled_from(Color))),
    "dataclass": (Money, st.builds(Money, st.decimals(), TEXT)),
    "named tuple": (Point, st.builds(Point, INTS, st.floats() | st.integers())),
    "struct": (Item, st.builds(Item, INTS, st.frozensets(TEXT))),
    "model": (Address, st.builds(Address, street=TEXT, since=AWARE, extra=SCALARS)),
    "literal": (Literal["a", 1], st.sampled_from(["a", 1, True, 1.0, "b"])),
    "any": (Any, ANYTHING),
    "object": (object, ANYTHING),
    "nested": (list[dict[str, Money | None]], ANYTHING),
}


def typed(value):
    """Spell out every type in *value*, so that == tells True, 1 and 1.0 apart."""
    match value:
        case datetime(tzinfo=zone) if zone:
            # the moment: zones that differ in name are no loss
            return datetime, value.replace(tzinfo=None) - value.utcoffset()
        case dict():
            content = {(type(key), key): typed(item) for key, item in value.items()}
        case set() | frozenset():
            content = {typed(item) for item in value}
        case list() | tuple():
            content = [typed(item) for item in value]
        case Tree() | Money() | Address():
            content = {name: typed(item) for name, item in vars(value).items()}
        case float():
            content = value.hex()
        case _:
            content = value
    return (type(value), content)


@pytest.mark.parametrize("case", TYPED)
@given(st.data())
def test_comes_back_equal_and_of_the_same_type_or_is_refused(case, data):
    annotation, values = TYPED[case]
    signature = signature_for(annotation)
    value = data.draw(values | ANYTHING)

    try:
        text = signature.encode({"value": value})
    except ArgumentsError as error:
        str(error).encode()
        return

    back = signature.decode(text)["value"]
    text.encode()
    assert "\0" not in text
    assert typed(back) == typed(value)
    assert json.loads(text).keys() == {"value"}


@given(ANYTHING)
def test_lossy_encoding_never_fails(value):
    assert json.loads(encode_lossy({"value": value})).keys() == {"value"}


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, 2**63),
        (float, -0.0),
        (str, "a\0b"),
        (Any, {"b": [1, 1.5, True, None, "x"], "a": {}}),
        (datetime, datetime(2025, 1, 1, tzinfo=UTC)),
        (datetime, datetime(2025, 1, 1, tzinfo=BERLIN)),
        (datetime, datetime.max.replace(tzinfo=timezone(timedelta(hours=-14)))),
        (Decimal, Decimal("1.50")),
        (Decimal, Decimal("Infinity")),
        (timedelta, timedelta(microseconds=-1)),
        (bytes, b"\0\xff"),
        (Color, Color.RED),
        (Right, Right.READ | Right.WRITE),
        (tuple[int, str], (1, "x")),
        (set[Color], {Color.RED, Color.BLUE}),
        (dict[str, frozenset[Color]], {"x": frozenset(Color)}),
        (Money, Money(Decimal(1))),
        (Money | None, None),
        (Point, Point(1)),
        (Options, {"coupon": "x"}),
        (Item, Item(1, frozenset({"b", "a"}))),
        (Address, Address(street="x", since=datetime(2025, 1, 1, tzinfo=UTC))),
        (list[Address], [Address(street="x")]),
        (Annotated[int, msgspec.Meta(ge=0)], 0),
    ],
    ids=range(24),
)
def test_keeps(annotation, value):
    back = round_trip(annotation, value)

    assert (type(back), back) == (type(value), value)
    assert (
        math.copysign(1, back) == math.copysign(1, value)
        if isinstance(value, float)
        else True
    )


def test_keeps_the_moment_of_an_hour_that_repeats():
    first, second = (
        datetime(2025, 10, 26, 2, 30, tzinfo=BERLIN, fold=n) for n in (0, 1)
    )

    assert round_trip(datetime, second) - round_trip(datetime, first) == timedelta(
        hours=1
    )


@pytest.mark.parametrize(
    ("annotation", "value", "problem"),
    [
        (int, "5", "Expected `int`, got `str`"),
        (int, True, "Expected `int`, got `bool`"),
        (str, 5, "Expected `str`, got `int`"),
        (float, 5, "value is int, but would come back as float"),
        (float, math.nan, "value is nan, and JSON has no such number"),
        (float | None, math.nan, "value is nan, and JSON has no such number"),
        (Any, math.inf, "value is inf, and JSON has no such number"),
        (Any, (1, 2), "value is tuple, but would come back as list"),
        (Any, {"a": [0, (1,)]}, "value['a'][1] is tuple, but would come back as list"),
        (Any, Mood.OK, "value is Mood, but would come back as str"),
        (str, Mood.OK, "value is Mood, but would come back as str"),
        (int, Size.S, "value is Size, but would come back as int"),
        (Any, Money(Decimal(1)), "value is Money, but would come back as dict"),
        (Any, {1: 2}, "value has a key of type int; JSON has only str"),
        (dict[int, int], {1: 2}, "value has a key of type int"),
        (Any, {Mood.OK: 2}, "value has a key of type Mood"),
        (Any, "\ud800", "surrogates not allowed"),
        (Any, {"\ud800": 1}, "surrogates not allowed"),
        (Any, object(), "object has no form in JSON"),
        (datetime, datetime(2025, 1, 1), "value is a datetime without a zone"),  # noqa: DTZ001
        (Tree, Tree({"at": datetime.min}), "value.value['at'] is a datetime without"),  # noqa: DTZ901
        (
            datetime,
            datetime(1800, 1, 1, tzinfo=BERLIN),
            "value would come back changed",
        ),
        (set[Any], {1, (2, 3)}, "unhashable type: 'list'"),
        (set[frozenset[str]], {frozenset("a")}, "value is a set of sets"),
        (Color, "red", "value is str, but would come back as Color"),
        (
            Options,
            {"coupon": "x", "other": 1},
            "value would come back with other members",
        ),
        (Address, Address(street="x", extra=(1,)), "value.extra is tuple"),
        (Tree, Tree(1, [Tree((1,))]), "value.leaves[0].value is tuple"),
        (Annotated[int, msgspec.Meta(ge=0)], -1, "`int` >= 0"),
        (Decimal, Decimal("sNaN"), "InvalidOperation"),
        (str, "x" * MOST_BYTES, "larger than 1048576 bytes"),
        (str, "\0" * (MOST_BYTES // 4), "larger than 1048576 bytes"),
        (Any, 10**5000, "4300"),
    ],
    ids=range(33),
)
def test_refuses(annotation, value, problem):
    assert problem in refusal(annotation, value)


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, frozen=True)

    mood: Mood
    at: datetime
    key: UUID
    price: Decimal
    raw: bytes
    both: tuple[int, date]
    some: frozenset[str]
    by_name: dict[str, timedelta]


class Camel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(alias_generator=to_camel, extra="forbid")

    first_name: str
    nested_words: list[Address] = []

    @pydantic.computed_field
    def loud(self) -> str:
        return self.first_name.upper()


class Renamed(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(serialize_by_alias=True)

    first_name: str = pydantic.Field(validation_alias="in", serialization_alias="out")


class Either(pydantic.RootModel[Address | Renamed]): ...


STRICT = Strict(
    mood=Mood.OK,
    at=datetime(2026, 1, 2, tzinfo=UTC),
    key=UUID(int=7),
    price=Decimal("1.10"),
    raw=b"x",
    both=(1, date(2026, 1, 2)),
    some=frozenset({"a", "b"}),
    by_name={"a": timedelta(seconds=4)},
)
CAMEL = Camel(firstName="Ada", nestedWords=[Address(street="x")])
RENAMED = Renamed(**{"in": "Ada"})


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Strict, STRICT),
        (list[Strict] | None, [STRICT]),
        (Camel, CAMEL),
        (dict[str, Camel], {"a": CAMEL}),
        (Renamed, RENAMED),
        (Either, Either(RENAMED)),
        (Either, Either(Address(street="x", since=datetime(2026, 1, 2, tzinfo=UTC)))),
    ],
    ids=[
        "strict",
        "strict in a list",
        "alias",
        "alias in a dict",
        "two aliases",
        "root",
        "time",
    ],
)
def test_a_model_comes_back_whatever_it_demands_of_its_input(annotation, value):
    assert round_trip(annotation, value) == value


def test_a_model_is_stored_by_the_names_of_its_fields():
    assert (
        signature_for(Renamed).encode({"value": RENAMED})
        == '{"value":{"first_name":"Ada"}}'
    )


def test_a_model_stored_under_its_aliases_is_still_read():
    stored = '{"value":{"firstName":"Ada","nestedWords":[]}}'

    assert signature_for(Camel).decode(stored)["value"] == Camel(firstName="Ada")


def test_refuses_a_model_whose_private_attribute_would_be_lost():
    class Draft(pydantic.BaseModel):
        title: str
        _rank: int = 0

    plain, ranked = Draft(title="x"), Draft(title="x")
    ranked._rank = 3

    assert round_trip(Draft, plain) == plain
    assert "value would come back changed" in refusal(Draft, ranked)


def test_refuses_a_deep_a_cyclic_and_a_webbed_value():
    deep, cycle, web = [], [], [1]
    for _ in range(10_000):
        deep = [deep]
    cycle.append(cycle)
    for _ in range(60):
        web = [web, web]

    assert f"more than {MOST_DEPTH} deep" in refusal(Any, deep)
    assert f"more than {MOST_DEPTH} deep" in refusal(Any, cycle)
    assert "larger than" in refusal(Any, web)
    assert json.loads(encode_lossy({"a": deep, "b": cycle, "c": web})).keys() == {
        "a",
        "b",
        "c",
    }


def test_depth_64_is_the_last_that_is_kept():
    deep = 1
    for _ in range(MOST_DEPTH):
        deep = [deep]

    assert round_trip(Any, deep) == deep
    assert "deep" in refusal(Any, [deep])


def test_text_is_compact_sorted_and_empty_for_nothing():
    def action(self, ctx, b: dict[str, Any], *, a: int = 1, größe: Money | None = None):  # noqa: PLC2401
        pass

    signature = Signature.of(action, name="x", skip=2)

    assert signature.encode({}) == "{}"
    assert signature.encode(
        {"größe": Money(Decimal(2)), "b": {"z": 1, "y": [2]}, "a": 1}
    ) == ('{"a":1,"b":{"y":[2],"z":1},"größe":{"amount":"2","currency":"EUR"}}')


def test_sets_have_one_text_whatever_the_hash_seed():
    code = (
        "from typing import Any\nfrom tests.unit.values.test_arguments import *\n"
        "s = signature_for(dict[str, set[Any] | None])\n"
        "print(s.encode({'value': {'a': set('abcdefgh')}}),\n"
        "  signature_for(set[Color]).encode({'value': set(Color)}))"
    )

    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": str(n), "PYTHONPATH": "."},
            check=True,
            capture_output=True,
        ).stdout
        for n in (1, 2)
    }

    assert len(texts) == 1


# --- Calls ----------------------------------------------------------------------------------


def charge(self, ctx, amount: int, coupon: str = "none", *, note: str | None = None):
    pass


CHARGE = Signature.of(charge, name="order.charge", skip=2)


def test_binds_what_was_given_and_no_defaults():
    assert CHARGE.bind((5,), {"note": "x"}) == {"amount": 5, "note": "x"}
    assert CHARGE.bind((), {"amount": 5, "coupon": "c"}) == {"amount": 5, "coupon": "c"}


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "order.charge: argument 'amount' is missing"),
        ((1,), {"cupon": 1}, "argument 'cupon' is unknown; did you mean 'coupon'"),
        (
            (1, "c", "n"),
            {},
            "order.charge: takes at most 2 by position, but 3 were given",
        ),
        ((1,), {"amount": 1}, "argument 'amount' is given twice"),
    ],
)
def test_refuses_arguments_that_do_not_fit_the_call(args, kwargs, message):
    with pytest.raises(ArgumentsError, match=message):
        CHARGE.bind(args, kwargs)


def test_encoding_refuses_an_unknown_name():
    with pytest.raises(ArgumentsError, match="did you mean 'amount'"):
        CHARGE.encode({"amuont": 1})


@pytest.mark.parametrize(
    ("text", "parameter", "problem"),
    [
        ("{}", "amount", "is missing"),
        ('{"amount":1,"old":2}', "old", "is unknown"),
        ('{"amount":"1"}', "amount", "Expected `int`, got `str`"),
        ("[]", "(all)", "not stored as a JSON object"),
        ("", "(all)", "not stored as a JSON object"),
        ('{"amount":' + "[" * 100_000 + "]" * 100_000 + "}", "(all)", "recursion"),
    ],
    ids=["missing", "unknown", "type", "list", "empty", "deep"],
)
def test_decoding_says_that_another_version_wrote_the_job(text, parameter, problem):
    with pytest.raises(ArgumentsError, match="another version of the code") as caught:
        CHARGE.decode(text)

    assert caught.value.parameter == parameter
    assert problem in caught.value.problem


def test_decoding_nothing_leaves_the_defaults_to_the_call():
    def action(a: int = 1):
        pass

    assert Signature.of(action, name="x", skip=0).decode("{}") == {}


# --- Declarations ---------------------------------------------------------------------------


def _open(self, *values: int): ...
def _named(self, **values: int): ...
def _places(self, value: int, /): ...
def _missing(self, value: "Nowhere"): ...  # noqa: F821
def _nested(self, value: "list[Nowhere]"): ...  # noqa: F821
def _broken(self, value: "1 +"): ...  # noqa: F722
def _custom(self, value: list[socket_like := type("Socket", (), {})]): ...
def _iterable(self, value: Iterable[int]): ...
def _union(self, value: UUID | str): ...
def _keyword_only(*, value: int): ...


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (_open, "'\\*values: int' is variadic positional"),
        (_named, "'\\*\\*values: int' is variadic keyword"),
        (_places, "is positional-only"),
        (_missing, "annotation 'Nowhere' of 'value' cannot be resolved"),
        (_nested, "cannot be resolved"),
        (_broken, "cannot be resolved"),
        (_custom, "cannot be stored: .*Socket.* has no form in JSON"),
        (_iterable, "has no form in JSON"),
        (_union, "more than one str-like type"),
        (_keyword_only, "is called with 1 before its arguments"),
    ],
)
def test_refuses_a_declaration_that_cannot_be_stored(function, what):
    with pytest.raises(DefinitionError, match=what) as caught:
        Signature.of(function, name="order.charge", skip=1)

    assert caught.value.where == "order.charge"
    assert caught.value.why
    assert caught.value.fix


def test_looks_at_no_annotation_but_those_of_the_arguments():
    def action(self, ctx: "Nowhere", value: "int") -> "Nowhere":  # noqa: F821
        pass

    signature = Signature.of(action, name="x", skip=2)

    assert signature.parameters["value"].annotation is int


def test_arguments_that_no_job_carries_may_be_anything():
    signature = Signature.of(_missing, name="order.assign", skip=1, stored=False)
    user = object()

    assert signature.bind((user,), {}) == {"value": user}


# --- History --------------------------------------------------------------------------------


class BrokenRepr:
    def __repr__(self):
        raise SystemExit


def test_lossy_text_masks_secrets_and_describes_the_rest():
    text = encode_lossy(
        {
            "api_key": "hunter2",
            "login": {
                "password": "hunter2",
                "user": "bob",
                "url": "db://bob:hunter2@host",
            },
            "money": Money(Decimal(1)),
            "broken": BrokenRepr(),
            "odd": [1, {2, 3}.__iter__],
            "text": "a\0\ud800" + "x" * 100_000,
            "nan": math.nan,
        }
    )

    shown = json.loads(text)
    assert shown["api_key"] == "***"
    assert shown["login"] == {
        "password": "***",
        "user": "bob",
        "url": "db://bob:***@host",
    }
    assert shown["money"] == {"amount": "1", "currency": "EUR"}
    assert shown["text"].startswith("a\u2400\\ud800xx")
    assert len(text) < 12_000
    assert "hunter2" not in text
    assert encode_lossy({}) == "{}"


def test_lossy_text_survives_values_that_are_no_mapping():
    assert json.loads(encode_lossy(None)) == {}
    assert "?" in json.loads(encode_lossy([1]))
