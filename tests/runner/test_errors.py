"""Whatever an action raises is recorded, and the next job runs."""

import asyncio
import sys

import pytest

from statejobs import JobState
from statejobs.values.failure import MESSAGE_LIMIT
from tests.support.parcels import Parcel, attempts_of, job_of, script, send, state_of


class NoText(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


class Quits(Exception):
    def __str__(self):
        sys.exit("while it is described")


def _group():
    return BaseExceptionGroup(
        "two", [SystemExit(1), ExceptionGroup("in", [ValueError("x")])]
    )


def _caused():
    try:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise NoText from error
    except NoText as error:
        return error


ERRORS = {
    "system-exit": SystemExit(3),
    "keyboard-interrupt": KeyboardInterrupt(),
    "generator-exit": GeneratorExit(),
    "cancelled-error": asyncio.CancelledError(),
    "group": _group(),
    "no-text": NoText(),
    "quits-when-described": Quits(),
    "caused": _caused(),
    "nul": ValueError("a\0b"),
    "surrogate": ValueError("\udcff is no text"),
    "ten-megabytes": ValueError("x" * 10_000_000),
    "not-a-string": ValueError(object(), 2**70, float("nan")),
    "recursion": RecursionError("maximum recursion depth exceeded"),
    "memory": MemoryError(),
    "stop-iteration": StopIteration(7),
    "assertion": AssertionError(),
}


@pytest.mark.parametrize("name", ERRORS)
def test_whatever_is_raised_is_recorded_and_the_next_job_runs(app, name):
    def raise_first(parcel, _ctx):
        if parcel.id == bad:
            raise ERRORS[name]

    script.send = raise_first
    bad, good = send(app, 2)

    counts = app.drain().counts

    assert counts == {"fail": 1, "complete": 1}
    assert (state_of(app, Parcel, bad), state_of(app, Parcel, good)) == (
        "packed",
        "sent",
    )
    assert job_of(app, Parcel, bad).state is JobState.FAILED
    ((attempt, outcome, error_type),) = attempts_of(app, Parcel, bad)
    assert (attempt, outcome) == (1, "failed")
    assert error_type.endswith(type(ERRORS[name]).__name__)


def test_the_message_is_bounded_and_keeps_both_ends(app):
    def long(_parcel, _ctx):
        raise ValueError("begin " + "x" * 10_000_000 + " end")

    script.send = long
    (key,) = send(app)

    app.drain()

    (row,) = app.queries.attempts(job_of(app, Parcel, key).id)
    assert len(row["message"].encode()) <= MESSAGE_LIMIT
    assert row["message"].startswith("begin ")
    assert row["message"].endswith(" end")
    assert "long" in row["traceback"]


def test_a_body_that_recurses_without_end_is_recorded(app):
    def recurse(parcel, ctx):
        recurse(parcel, ctx)

    script.send = recurse
    (key,) = send(app)

    app.drain()

    assert attempts_of(app, Parcel, key) == [(1, "failed", "RecursionError")]


def test_an_error_at_the_flush_of_what_the_body_wrote_fails_the_attempt(app):
    from sqlalchemy import text

    def break_the_schema(parcel, ctx):
        parcel.stamps = 5
        ctx.session.execute(
            text("INSERT INTO items (id, name, parcel_id) VALUES (1, NULL, 1)")
        )

    script.send = break_the_schema
    (key,) = send(app)

    app.drain()

    ((_, outcome, error_type),) = attempts_of(app, Parcel, key)
    assert (outcome, error_type) == ("failed", "sqlalchemy.exc.IntegrityError")
    assert state_of(app, Parcel, key) == "packed"


def test_a_value_that_the_database_refuses_at_the_commit_fails_the_attempt(app):
    def misuse(parcel, _ctx):
        parcel.stamps = None

    script.send = misuse
    (key,) = send(app)

    app.drain()

    ((_, outcome, error_type),) = attempts_of(app, Parcel, key)
    assert (outcome, error_type) == ("failed", "sqlalchemy.exc.IntegrityError")
    assert state_of(app, Parcel, key) == "packed"


def test_secrets_in_an_error_are_not_stored(app):
    def leak(_parcel, _ctx):
        raise ValueError("postgresql://app:hunter2@db/shop refused, password='hunter2'")

    script.send = leak
    (key,) = send(app)

    app.drain()

    (row,) = app.queries.attempts(job_of(app, Parcel, key).id)
    assert "hunter2" not in row["message"]
