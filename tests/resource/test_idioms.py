"""Idioms of pydantic, SQLModel and dataclasses make records that begin at the start."""

import dataclasses
from contextlib import suppress

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import UnmappedInstanceError
from sqlmodel import SQLModel

from statejobs import ProtectedStateError
from tests.resource.support import Step
from tests.resource.test_mapping import DataclassBase, Modelled, Typed
from tests.support.shop import read_history, read_history_rows, read_jobs, shop_engine


@pytest.fixture
def models(database_url):
    with shop_engine(database_url, SQLModel) as opened:
        yield opened


def construct(state):
    return Modelled(title="x", state=state)


def validate(state):
    return Modelled.model_validate({"title": "x", "state": state})


def validate_with_update(state):
    return Modelled.model_validate({"title": "x"}, update={"state": state})


def validate_json(state):
    return Modelled.model_validate_json(f'{{"title": "x", "state": "{state}"}}')


def construct_unchecked(state):
    return Modelled.model_construct(title="x", state=state)


def set_later(state):
    return Modelled(title="x").sqlmodel_update({"state": state})


def copy_with_update(state):
    return Modelled(title="x").model_copy(update={"state": state})


def deep_copy_with_update(state):
    return Modelled(title="x").model_copy(update={"state": state}, deep=True)


@pytest.mark.parametrize(
    "target", [Modelled, Modelled.__table__], ids=["class", "table"]
)
def test_a_statement_on_a_table_that_was_mapped_late_is_refused_too(models, target):
    with Session(models) as session, pytest.raises(ProtectedStateError):
        session.execute(update(target).values(state=Step.DONE))


@pytest.mark.parametrize(
    "make",
    [
        construct,
        validate,
        validate_with_update,
        validate_json,
        construct_unchecked,
        set_later,
        copy_with_update,
        deep_copy_with_update,
    ],
)
def test_no_idiom_of_pydantic_makes_a_record_in_another_state(models, make):
    with (
        Session(models) as session,
        suppress(ProtectedStateError, UnmappedInstanceError),
    ):
        session.add(make(Step.DONE))
        session.commit()

    with Session(models) as session:
        assert {r.state for r in session.query(Modelled)} <= {Step.NEW}
    assert {row.target for row in read_history_rows(models)} <= {"new"}


def test_a_body_that_sets_the_state_is_refused_in_a_clear_line():
    with pytest.raises(
        ProtectedStateError, match=r"^Modelled \(new\): state = 'done' would skip"
    ):
        Modelled.model_validate({"title": "x", "state": "done"})


def test_a_validated_model_begins_at_the_start_and_can_be_fired(models):
    with Session(models) as session:
        record = Modelled.model_validate({"title": "x", "state": "new"})
        record.queue()
        session.add(record)
        session.commit()

    assert read_history(models) == [("create", None, "new"), ("queue", "new", "queued")]
    assert len(read_jobs(models)) == 1


def test_replacing_a_field_of_a_dataclass_makes_a_record_that_begins_at_the_start(
    database_url,
):
    with shop_engine(database_url, DataclassBase) as engine, Session(engine) as session:
        session.add(record := Typed(title="x"))
        record.queue()
        session.commit()

        session.add(other := dataclasses.replace(record, title="y"))
        session.commit()

        assert (other.title, other.state, other.state_version) == ("y", Step.NEW, 0)
        assert read_history(engine, other.id) == [("create", None, "new")]


def test_a_dataclass_is_not_replaced_in_another_state():
    with pytest.raises((ProtectedStateError, ValueError)):
        dataclasses.replace(Typed(title="x"), state=Step.DONE)
