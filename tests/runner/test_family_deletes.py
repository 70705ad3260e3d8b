"""Of one family, an action may delete the records of a class and keep those of another."""

from enum import StrEnum

import pytest
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import JobContext, StatefulResource, Trigger, state_column
from tests.support.forms import office
from tests.support.parcels import enqueue, state_of


class Base(DeclarativeBase): ...


class S(StrEnum):
    OLD = "old"
    KEPT = "kept"


class Paper(StatefulResource, Base):
    __tablename__ = "family_papers"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "paper"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    state: Mapped[S] = state_column(S, initial=S.OLD, final=(S.KEPT,))
    clear = Trigger.on_demand("paper.clear")

    @clear.action(S.OLD, S.KEPT)
    def end(self, ctx: JobContext) -> None: ...


class Draft(Paper):
    __mapper_args__ = {"polymorphic_identity": "draft"}  # noqa: RUF012

    @Paper.clear.action(S.OLD, deletes=True)
    def end(self, ctx: JobContext) -> None: ...


@pytest.mark.parametrize("together", [True, False])
def test_each_record_ends_as_its_own_class_says(database_url, together):
    with office(database_url, [Paper, Draft]) as app:
        (paper,) = enqueue(app, Paper, "end")
        (draft,) = enqueue(app, Draft, "end")

        ended = app.step(2) if together else [*app.step(1), *app.step(1)]

        assert [one.outcome for one in ended] == ["complete", "complete"]
        assert state_of(app, Paper, paper) == "kept"
        with app.session() as session:
            assert session.get(Draft, draft) is None
        (*_, last) = app.queries.transitions("Paper", str(draft))
        assert (last["source"], last["target"]) == ("old", "(deleted)")
