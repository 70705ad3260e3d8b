"""Successes that are committed together: each ends by itself, as if it were alone."""

import json
import logging
from datetime import timedelta
from enum import StrEnum

import pytest
from sqlalchemy import JSON, CheckConstraint, event, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    Domain,
    JobContext,
    JobState,
    StatefulResource,
    StateJobs,
    Trigger,
    state_column,
    transition,
)
from statejobs.store.tables import attempts, jobs
from tests.support.clock import manual_sources
from tests.support.parcels import (
    Parcel,
    close_app,
    fire,
    job_of,
    load,
    script,
    send,
    state_of,
)
from tests.support.parcels import steps as history_of

SENT = [
    ("create", None, "packed"),
    ("start", "packed", "sending"),
    ("complete", "sending", "sent"),
]


@pytest.fixture
def statements(app):
    """Every statement that the app sends."""
    sent = []
    event.listen(
        app.engine,
        "before_cursor_execute",
        lambda _c, _cursor, text, *_rest: sent.append(text),
    )
    return sent


def stamp(parcel, _ctx):
    parcel.stamps = parcel.id * 10


# Together ----------------------------------------------------------------------------------------


def test_a_batch_ends_with_a_fixed_number_of_statements(app, statements):
    counts = []
    for number in (3, 30):
        send(app, number=number)
        del statements[:]
        app.step(number)
        counts.append(len(statements))

    assert counts[0] == counts[1]


def test_each_record_gets_its_own_values_and_its_own_history(app, clock):
    script.send = stamp
    keys = send(app, number=5)
    clock.advance(minutes=1)

    ended = app.step(5)

    assert [(one.outcome, one.state) for one in ended] == [
        ("complete", JobState.COMPLETED)
    ] * 5
    for key in keys:
        job, parcel = job_of(app, Parcel, key), load(app, Parcel, key)
        assert (parcel.state.value, parcel.stamps) == ("sent", key * 10)
        assert (job.state, job.attempt, job.owner, job.token) == (
            JobState.COMPLETED,
            1,
            None,
            None,
        )
        assert job.finished_at == clock.now()
        assert history_of(app, Parcel, key) == SENT


def test_history_is_the_same_as_of_one_that_ends_alone(app, clock):
    (alone,) = send(app)
    app.step(1)
    together = send(app, number=3)
    app.step(3)

    def story(key):
        own = {"id", "record_id", "job_id"}
        rows = app.queries.transitions("Parcel", str(key))
        return [
            {name: value for name, value in row.items() if name not in own}
            for row in rows
        ]

    assert [story(key) for key in together] == [story(alone)] * 3
    assert all(
        row["job_id"] == job_of(app, Parcel, key).id
        for key in together
        for row in app.queries.transitions("Parcel", str(key))[1:]
    )


# Left out ----------------------------------------------------------------------------------------


def run_five(app, *, meanwhile):
    """Run five jobs, the third of which does *meanwhile* with its key; return their keys."""
    keys = send(app, number=5)

    def body(parcel, ctx):
        stamp(parcel, ctx)
        if parcel.id == keys[2]:
            meanwhile(parcel, ctx)

    script.send = body
    return keys, app.step(5)


def outcomes(ended):
    return [one.outcome for one in ended]


def test_a_record_that_someone_moved_is_left_to_them(app):
    keys, ended = run_five(
        app, meanwhile=lambda parcel, _ctx: fire(app, Parcel, parcel.id, "drop")
    )

    assert outcomes(ended) == ["complete", "complete", "cancel", "complete", "complete"]
    assert [state_of(app, Parcel, key) for key in keys] == [
        "sent",
        "sent",
        "dropped",
        "sent",
        "sent",
    ]
    assert load(app, Parcel, keys[2]).stamps == 0


def test_a_job_that_is_no_longer_ours_is_left_to_its_owner(app, caplog):
    def take_away(_parcel, ctx):
        with app.engine.begin() as connection:
            connection.execute(
                update(jobs).where(jobs.c.id == ctx.job.id).values(token="other")
            )

    keys, ended = run_five(app, meanwhile=take_away)

    assert outcomes(ended) == ["complete", "complete", "late", "complete", "complete"]
    assert load(app, Parcel, keys[2]).stamps == 0
    assert state_of(app, Parcel, keys[2]) == "sending"
    assert job_of(app, Parcel, keys[2]).state is JobState.PROCESSING
    assert "late result" in caplog.text
    release(app, keys[2])


def release(app, key):
    """Let the lease of a job that nobody runs end, so that record and job agree again."""
    with app.engine.begin() as connection:
        connection.execute(
            update(jobs)
            .where(jobs.c.record_id == str(key))
            .values(lease_until=app.sources.clock.now() - timedelta(seconds=1))
        )
    app.runner().rescue()


def test_a_job_that_was_enqueued_anew_runs_again(app):
    def ask_again(_parcel, _ctx):
        with app.session() as session:
            Parcel.send_off.enqueue(session, session.get(Parcel, _parcel.id))
            session.commit()

    keys, ended = run_five(app, meanwhile=ask_again)

    assert outcomes(ended) == ["complete"] * 5
    assert state_of(app, Parcel, keys[2]) == "sent"
    assert not job_of(app, Parcel, keys[2]).run_again


@pytest.mark.postgres
def test_a_held_row_delays_no_other_success(postgres_url, clock):
    app = StateJobs(
        postgres_url,
        domains=[Domain("post", resources=[Parcel])],
        sources=manual_sources(clock),
    )
    app.create_all()
    first, second = send(app, number=2)
    runner = app.runner()
    successes = [
        runner.attempts.run([claim])[0] for claim in runner.claim("default", limit=2)
    ]

    with app.engine.begin() as holder:
        holder.execute(select(Parcel.id).where(Parcel.id == first).with_for_update())
        ended, left = runner.finisher.finish_many(successes)

        assert [one.job.record_id for one in ended] == [str(second)]
        assert [success.claim.job.record_id for success in left] == [str(first)]
    assert runner.finisher.finish(left[0]).outcome == "complete"
    close_app(app)


# Every kind of record ----------------------------------------------------------------------------


class Base(DeclarativeBase):
    """The user's base."""


class S(StrEnum):
    NEW = "new"
    DONE = "done"
    FAILED = "failed"


class Crate(StatefulResource, Base):
    """A composite key, no history, a column that is no array element, and a constraint."""

    __tablename__ = "crates"
    __history__ = False
    __table_args__ = (CheckConstraint("weight < 100", name="ck_light"),)

    row: Mapped[int] = mapped_column(primary_key=True)
    shelf: Mapped[str] = mapped_column(primary_key=True)
    weight: Mapped[int] = mapped_column(default=0)
    facts: Mapped[dict | None] = mapped_column(JSON)
    state: Mapped[S] = state_column(S, initial=S.NEW, final=(S.DONE,))

    weigh = Trigger.on_demand("crate.weigh", max_attempts=1)

    @weigh.action(S.NEW, S.DONE, failed=S.FAILED)
    def put_on_scale(self, ctx: JobContext, grams: int, facts: str = "") -> None:
        self.weight = grams
        if facts:
            self.facts = json.loads(facts)

    @transition(S.FAILED, S.NEW)
    def mend(self) -> None: ...


@pytest.fixture
def store_room(database_url, clock):
    """An app with crates."""
    app = StateJobs(
        database_url,
        domains=[Domain("store", resources=[Crate])],
        sources=manual_sources(clock),
    )
    app.create_all()
    yield app
    close_app(app)


def weigh(app, *grams, facts=""):
    with app.session() as session:
        for row, weight in enumerate(grams):
            crate = Crate(row=row, shelf="a:b")
            Crate.put_on_scale.enqueue(session, crate, weight, facts)
        session.commit()
    return outcomes(app.step(len(grams)))


def weights(app):
    with app.session() as session:
        crates = session.scalars(select(Crate).order_by(Crate.row))
        return [(crate.weight, crate.facts, crate.state) for crate in crates]


def test_records_with_a_composite_key_and_no_history_end_together(store_room, caplog):
    caplog.set_level(logging.DEBUG, "statejobs.runner")

    assert weigh(store_room, 1, 2, 3) == ["complete"] * 3
    assert weights(store_room) == [
        (1, None, S.DONE),
        (2, None, S.DONE),
        (3, None, S.DONE),
    ]
    assert "one by one" not in caplog.text


def test_a_column_that_fits_no_array_is_written_all_the_same(store_room):
    assert weigh(store_room, 1, 2, facts='{"a": [1, 2]}') == ["complete"] * 2
    assert weights(store_room) == [(n, {"a": [1, 2]}, S.DONE) for n in (1, 2)]


def test_a_value_that_the_database_refuses_fails_its_own_job_only(store_room):
    assert weigh(store_room, 1, 500, 3) == ["complete", "discard", "complete"]
    assert weights(store_room) == [
        (1, None, S.DONE),
        (0, None, S.FAILED),
        (3, None, S.DONE),
    ]
    with store_room.engine.connect() as connection:
        assert "ck_light" in connection.scalar(select(attempts.c.message))
