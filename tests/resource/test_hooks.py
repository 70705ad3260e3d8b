"""`on_discard` belongs to its class, as an action does: inherited, overridden, never lost."""

from typing import ClassVar

import pytest
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, registry
from sqlmodel import Field, SQLModel

from statejobs import (
    Action,
    Cancel,
    DefinitionError,
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    Transition,
    Trigger,
    state_column,
)
from tests.resource.support import Step

TOLD = []


class Work:
    """A trigger, its action and its hook, for any resource."""

    perform = Trigger.on_demand("{resource}.perform")

    @perform.action(Step.QUEUED, Step.DONE, failed=Step.FAILED)
    def run(self, ctx: JobContext) -> None:
        raise Cancel("no")

    @perform.on_discard
    def tell(self, session, reason):
        TOLD.append(("mixin", type(self).__name__))


class Base(DeclarativeBase): ...


class Plain(Work, StatefulResource, Base):
    """Takes the hook as it is."""

    __tablename__ = "hooks_plain"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[Step] = state_column(Step, initial=Step.QUEUED)


class Other(Work, StatefulResource, Base):
    """Has another hook for the same trigger."""

    __tablename__ = "hooks_other"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[Step] = state_column(Step, initial=Step.QUEUED)

    @Work.perform.on_discard
    def tell(self, session, reason):
        super().tell(session, reason)
        TOLD.append(("other", reason))


class Family(StatefulResource, Base):
    """Tells nobody, but for some of its subclasses."""

    __tablename__ = "hooks_family"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "family"}  # noqa: RUF012
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    state: Mapped[Step] = state_column(Step, initial=Step.QUEUED)

    perform = Trigger.on_demand("family.perform")
    second = Trigger.on_demand("family.second")

    @perform.action(Step.QUEUED, Step.DONE, failed=Step.FAILED)
    def run(self, ctx: JobContext) -> None:
        raise Cancel("no")

    @second.action(Step.QUEUED, Step.DONE, failed=Step.FAILED)
    def run_second(self, ctx: JobContext) -> None:
        raise Cancel("no")


class Child(Family):
    """The only one with a hook, which is one of two triggers."""

    __mapper_args__ = {"polymorphic_identity": "child"}  # noqa: RUF012

    @Family.perform.on_discard
    @Family.second.on_discard
    def tell(self, session, reason):
        TOLD.append(("child", reason))


@pytest.fixture
def app(database_url):
    TOLD.clear()
    opened = StateJobs(
        database_url, domains=[Domain("hooks", resources=[Plain, Other, Family, Child])]
    )
    opened.create_all()
    Base.metadata.create_all(opened.engine)
    yield opened
    opened.close()


def give_up(app, record, action):
    """Drain a job of *record* whose action cancels it; return what was told."""
    TOLD.clear()
    with app.session() as session:
        session.add(record)
        action.enqueue(session, record)
        session.commit()
    app.drain()
    return TOLD


def test_a_class_has_the_hook_of_its_mixin(app):
    assert give_up(app, Plain(), Plain.run) == [("mixin", "Plain")]


def test_a_class_may_override_it_and_leaves_it_to_the_others(app):
    assert give_up(app, Other(), Other.run) == [("mixin", "Other"), ("other", "no")]
    assert give_up(app, Plain(), Plain.run) == [("mixin", "Plain")]


def test_a_subclass_alone_may_have_one(app):
    assert give_up(app, Child(), Child.run) == [("child", "no")]
    assert give_up(app, Family(), Family.run) == []


def test_one_method_may_be_the_hook_of_several_triggers(app):
    assert give_up(app, Child(), Child.run_second) == [("child", "no")]


def test_a_hook_is_the_method_that_it_was(app):
    Plain().tell(None, "")

    assert TOLD == [("mixin", "Plain")]
    assert Plain.tell.__name__ == "tell"


def test_sqlmodel_takes_a_hook_for_a_method():
    class Model(SQLModel, registry=registry()): ...

    class Hooked(Work, StatefulResource, Model, table=True):
        __tablename__ = "hooks_sqlmodel"
        model_config: ClassVar = {"ignored_types": (Trigger, Transition, Action)}
        id: int | None = Field(default=None, primary_key=True)
        state: Step = Field(
            default=Step.QUEUED,
            sa_column=state_column(Step, initial=Step.QUEUED).column,
        )

        @Work.perform.on_discard
        def tell(self, session, reason): ...

    [bound] = Hooked.__statejobs__.triggers.values()
    assert bound.hooks["on_discard"].body is Hooked.tell


# What cannot work ----------------------------------------------------------------------------


def lines(refused):
    return str(refused.value).splitlines()


def test_two_hooks_of_one_trigger():
    with pytest.raises(DefinitionError) as refused:

        class Twice(Work, StatefulResource, Base):
            __tablename__ = "hooks_twice"
            id: Mapped[int] = mapped_column(primary_key=True)
            state: Mapped[Step] = state_column(Step, initial=Step.QUEUED)

            @Work.perform.on_discard
            def shout(self, session, reason): ...

    assert lines(refused) == [
        "Twice.shout: trigger '{resource}.perform' has two @on_discard methods: tell, shout",
        "  why: only one could run",
        "  fix: call both from one method; one that overrides another has its name",
    ]


def test_two_hooks_of_one_name():
    with pytest.raises(DefinitionError) as refused:

        class Twice:
            perform = Trigger.on_demand("twice.perform")
            other = Trigger.on_demand("twice.other")

            @perform.on_discard
            def tell(self, session, reason): ...

            @other.on_discard
            def tell(self, session, reason): ...  # noqa: F811

    assert lines(refused)[0] == "Twice.tell: there is already a hook called 'tell'"


def test_a_method_that_hides_a_hook():
    with pytest.raises(DefinitionError) as refused:

        class Hidden(Work, StatefulResource, Base):
            __tablename__ = "hooks_hidden"
            id: Mapped[int] = mapped_column(primary_key=True)
            state: Mapped[Step] = state_column(Step, initial=Step.QUEUED)

            def tell(self, session, reason): ...

    assert (
        lines(refused)[0]
        == "Hidden.tell: Hidden hides the hook 'tell' behind something else"
    )


def test_a_hook_of_a_trigger_that_the_class_does_not_have():
    elsewhere = Trigger.on_demand("elsewhere.perform")

    with pytest.raises(DefinitionError) as refused:

        class Stranger(Work, StatefulResource, Base):
            __tablename__ = "hooks_stranger"
            id: Mapped[int] = mapped_column(primary_key=True)
            state: Mapped[Step] = state_column(Step, initial=Step.QUEUED)

            @elsewhere.on_discard
            def shout(self, session, reason): ...

    assert lines(refused) == [
        "Stranger.shout: its trigger 'elsewhere.perform' is not an attribute of Stranger",
        "  why: a hook without its trigger would never run",
        "  fix: declare the trigger in the same class (or mixin), above the hook",
    ]


def tell(self, session, reason): ...


def after_its_class():
    Plain.perform.on_discard(tell)


def decorated_after_its_class():
    @Plain.perform.on_discard
    def tell_late(self, session, reason): ...


def put_on_its_class_later():
    Plain.tell_late = Plain.perform.on_discard(tell)


def called_in_its_class():
    class Called:
        perform = Trigger.on_demand("called.perform")

        def tell(self, session, reason): ...

        perform.on_discard(tell)


def called_with_another_function():
    class Called:
        perform = Trigger.on_demand("called.perform")
        perform.on_discard(lambda self, session, reason: None)


LOST = [
    after_its_class,
    decorated_after_its_class,
    put_on_its_class_later,
    called_in_its_class,
    called_with_another_function,
]


@pytest.mark.parametrize("declare", LOST, ids=lambda declare: declare.__name__)
def test_a_hook_that_no_class_would_have_is_refused_where_it_stands(declare):
    with pytest.raises(
        DefinitionError, match="its on_discard is no attribute of a class"
    ):
        declare()


def test_a_hook_may_be_assigned_in_its_class():
    class Assigned:
        perform = Trigger.on_demand("assigned.perform")
        tell = perform.on_discard(tell)
        shout = perform.on_discard(lambda self, session, reason: "")

    assert Assigned.tell is tell
    assert Assigned().shout(None, "") == ""


def test_a_declared_trigger_is_frozen():
    with pytest.raises(AttributeError):
        Work.perform.spec.options = None
