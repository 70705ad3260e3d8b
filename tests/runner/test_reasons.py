"""A reason says what an error said: on one line, short, and without its secrets."""

import pytest

from statejobs import JobState, RecordFailedError
from tests.support import meters, parcels
from tests.support.parcels import BACKOFF, Message, Parcel, enqueue, job_of, send

LONG = "x" * 400

REASONS = [
    (ValueError("no such card"), "ValueError: no such card"),
    (ValueError(), "ValueError"),
    (KeyError("iban"), "KeyError: 'iban'"),
    (ValueError("\n  first line\nsecond line"), "ValueError: first line"),
    (ValueError(LONG), f"ValueError: {'x' * 299}…"),
    (
        ValueError("bank: password=hunter2 is wrong"),
        "ValueError: bank: password=*** is wrong",
    ),
    (ValueError("at http://ada:hunter2@bank"), "ValueError: at http://ada:***@bank"),
    (ValueError("iban=DE02 is closed"), "ValueError: iban=*** is closed"),
    (RecordFailedError("said by hand"), "said by hand"),
]


@pytest.fixture
def app(database_url, clock):
    with parcels.post_office(database_url, clock=clock, redact=["iban"]) as opened:
        yield opened


@pytest.mark.parametrize(("error", "reason"), REASONS)
def test_job_and_history_say_it_after_each_attempt(app, clock, error, reason):
    told = []
    parcels.script.send = raising(error)
    parcels.script.tell = lambda _parcel, _session, why: told.append(why)
    (key,) = send(app)

    app.drain()
    first = job_of(app, Parcel, key).reason
    for _ in range(2):
        clock.advance(BACKOFF)
        app.drain()

    job = job_of(app, Parcel, key)
    assert (first, job.state, job.reason) == (
        reason,
        JobState.DISCARDED,
        f"failed: {reason}",
    )
    assert told == [f"failed: {reason}"]
    assert [why for why in reasons(app, "Parcel", key) if why] == [
        reason,
        reason,
        f"failed: {reason}",
    ]


def test_an_async_action_says_it_too(app):
    async def fetch(*_):
        raise ValueError("no such street")

    parcels.script.fetch = fetch
    (key,) = enqueue(app, Message, "get")

    app.drain()

    assert job_of(app, Message, key).reason.endswith("ValueError: no such street")


@pytest.fixture
def office(database_url, clock):
    with meters.meter_office(database_url, clock) as opened:
        yield opened
    meters.reset_script()


def test_what_a_chunk_says_of_a_record_is_the_reason_as_it_is(office):
    meters.script.read = lambda found, ctx: ctx.fail(found[0], "no such mailbox")
    (key,) = enqueue(office, meters.Meter, "read_all")

    (ended,) = office.step()

    job = job_of(office, meters.Meter, key)
    (attempt,) = office.queries.attempts(job.id)
    assert (job.reason, ended.reason) == ("no such mailbox", "no such mailbox")
    assert (attempt["error_type"], attempt["message"]) == ("", "no such mailbox")
    assert "no such mailbox" in reasons(office, "Meter", key)


def test_what_a_chunk_says_of_a_record_can_be_raised(office):
    meters.script.read = lambda found, ctx: ctx.fail(found[0], "no such mailbox")
    enqueue(office, meters.Meter, "read_all")

    with pytest.raises(RecordFailedError, match="no such mailbox"):
        office.drain(raise_errors=True)


def raising(error):
    def body(*_):
        raise error

    return body


def reasons(app, resource, key):
    return [row["reason"] for row in app.queries.transitions(resource, str(key))]
