"""Annotations that cannot be stored are refused with their reason, and with a way that works."""

from dataclasses import dataclass
from typing import Annotated

import pytest
from pydantic import BaseModel, HttpUrl, RootModel, SecretBytes, SecretStr

from statejobs import ArgumentsError, DefinitionError
from statejobs.values.arguments import Signature


class Email(BaseModel):
    to: str


class Letter(BaseModel):
    street: str


class Login(BaseModel):
    password: SecretStr


class Message(RootModel[Email | Letter]): ...


@dataclass
class Left:
    n: int


@dataclass
class Right:
    m: int


def signature_of(annotation):
    def body(given): ...

    body.__annotations__ = {"given": annotation}
    return Signature.of(body, name="send", skip=0)


def refusal_of(annotation):
    with pytest.raises(DefinitionError) as caught:
        signature_of(annotation)
    return caught.value


@pytest.mark.parametrize(
    "annotation",
    [
        SecretStr,
        SecretBytes,
        SecretStr | None,
        list[SecretStr],
        dict[str, SecretBytes],
        Annotated[SecretStr, "of the bank"],
    ],
    ids=str,
)
def test_a_secret_is_refused_with_the_reason(annotation):
    error = refusal_of(annotation)

    assert error.what.startswith("parameter 'given' holds a Secret")
    assert "masked" in error.why
    assert "in clear" in error.why
    assert "given_key: str" in error.fix


def test_a_secret_inside_a_model_is_refused_when_it_is_given():
    with pytest.raises(
        ArgumentsError, match=r"given\.password is a SecretStr.* stored masked"
    ):
        signature_of(Login).encode({"given": Login(password="x")})


@pytest.mark.parametrize(
    ("annotation", "union"),
    [
        (Email | Letter, "Email | Letter"),
        (Email | Letter | None, "Email | Letter | None"),
        (list[Email | Letter], "Email | Letter"),
        (Email | str, "Email | str"),
        (Email | Left, "Email | Left"),
    ],
    ids=str,
)
def test_a_union_of_models_names_the_model_that_tells_them_apart(annotation, union):
    error = refusal_of(annotation)

    assert error.what == f"parameter 'given' may be any of {union}"
    assert "JSON does not say which" in error.why
    assert f"class Message(RootModel[{union}])" in error.fix
    assert "discriminator" in error.fix


def test_what_it_names_works():
    signature = signature_of(Message)
    sent = {"given": Message(Letter(street="Main"))}

    assert signature.decode(signature.encode(sent)) == sent


def test_other_unions_get_a_parameter_for_each():
    error = refusal_of(Left | Right)

    assert error.what == (
        "parameter 'given' may be any of Left | Right: "
        "Type unions may not contain more than one dataclass or attrs type"
    )
    assert "given: Left | None = None" in error.fix


def test_a_type_of_pydantic_is_wanted_in_a_model():
    error = refusal_of(HttpUrl)

    assert "annotate it as str" in error.fix
    assert "class Wanted(BaseModel): given: HttpUrl" in error.fix


def test_a_union_that_is_served_is_not_blamed_for_another_type():
    error = refusal_of(dict[int | str, complex])

    assert error.what.startswith("parameter 'given' cannot be stored: ")
