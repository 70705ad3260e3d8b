"""Each option is declared once, with its check and its doc; it is written wherever it is read."""

import ast
from dataclasses import dataclass, fields, replace
from typing import Annotated

import pytest

from statejobs import DefinitionError, StateJobsError
from statejobs.values.job_options import JobOptions
from statejobs.values.option import Option, check_options, given, options_of
from statejobs.values.options import TaskOptions, TriggerOptions
from statejobs.values.scheduled_trigger_options import ScheduledTriggerOptions
from tests.support.written_options import (
    DOORS,
    PAGE,
    WORDS,
    docstring_written,
    signature_written,
    table_written,
    words_written,
)

DECLARATIONS = [TaskOptions, TriggerOptions, ScheduledTriggerOptions, JobOptions]
OPTIONS = [(kind, name) for kind in DECLARATIONS for name in options_of(kind)]


def least(declaration):
    """What must be given."""
    if declaration is JobOptions:
        return {}
    ticks = {"cron": "@daily", "where": lambda: None}
    return {
        "key": "order.charge",
        **(ticks if declaration is ScheduledTriggerOptions else {}),
    }


@pytest.mark.parametrize("declaration", DECLARATIONS)
def test_each_field_of_a_declaration_is_an_option(declaration):
    assert list(options_of(declaration)) == [f.name for f in fields(declaration)]


@pytest.mark.parametrize(("declaration", "name"), OPTIONS)
def test_an_option_has_a_doc_that_goes_on_after_its_name(declaration, name):
    doc = options_of(declaration)[name].doc

    assert doc.strip() == doc != ""
    assert not doc[0].isupper()
    assert not doc.endswith(".")


@pytest.mark.parametrize(("declaration", "name"), OPTIONS)
def test_the_check_of_an_option_refuses_what_nobody_can_mean(declaration, name):
    with pytest.raises(StateJobsError) as refused:
        declaration(**{**least(declaration), name: object()})

    assert name in str(refused.value)


@pytest.mark.parametrize("declaration", DECLARATIONS)
def test_what_was_kept_of_options_is_kept_again(declaration):
    kept = declaration(**least(declaration))

    assert replace(kept) == kept


def test_a_trigger_has_each_option_of_a_task():
    assert options_of(TaskOptions).keys() < options_of(TriggerOptions).keys()


def test_a_trigger_that_ticks_has_each_option_of_one_that_does_not():
    assert (
        options_of(TriggerOptions).keys() < options_of(ScheduledTriggerOptions).keys()
    )


def test_the_options_of_schedules_are_typed_as_they_are_declared():
    source = WORDS.read_text()

    assert ast.dump(ast.parse(words_written(source))) == ast.dump(ast.parse(source)), (
        "say make fix"
    )


def test_a_field_without_its_option_is_told():
    @dataclass(frozen=True)
    class Bare:
        plain: int = 0

    with pytest.raises(TypeError, match=r"Bare\.plain has no Option\(doc, check\)"):
        options_of(Bare)


def test_a_new_option_is_one_field():
    def even(where, name, value):
        if value % 2:
            raise DefinitionError(where, f"{name}={value}", why="odd", fix="halve it")
        return value // 2

    @dataclass(frozen=True, kw_only=True)
    class Wider(TriggerOptions):
        pairs: Annotated[int, Option("how many go together", even)] = 4

    kept = given(Wider, {"key": "a.b", "pairs": 10, **defaults_but(Wider, "pairs")})

    assert kept.pairs == 5
    with pytest.raises(DefinitionError, match=r"trigger 'a\.b': pairs=3"):
        Wider(key="a.b", pairs=3)


def defaults_but(declaration, *names):
    return {
        field.name: field.default
        for field in fields(declaration)
        if field.kw_only and field.name not in names
    }


def test_what_is_kept_replaces_what_was_given():
    @dataclass(frozen=True)
    class Told:
        words: Annotated[object, Option("words", lambda _where, _name, value: (value,))]

    told = Told("a")
    check_options(told, "here")

    assert told.words == ("a",)


@pytest.mark.parametrize("door", DOORS, ids=lambda door: f"{door.file}-{door.function}")
def test_a_function_takes_the_options_that_are_declared_and_tells_of_each(door):
    source = door.path.read_text()
    written = docstring_written(signature_written(source, door), door)

    assert ast.dump(ast.parse(written)) == ast.dump(ast.parse(source)), "say make fix"


@pytest.mark.parametrize("door", DOORS, ids=lambda door: f"{door.file}-{door.function}")
def test_the_reference_lists_each_option_with_its_default_and_its_doc(door):
    page = PAGE.read_text()

    assert table_written(page, door) == page, "say make fix"
