"""What goes wrong, and where."""

import json
from datetime import timedelta

from sqlalchemy import insert, text

from statejobs.people import job_errors as module
from statejobs.people.job_errors import job_errors
from statejobs.store.tables import attempts
from tests.support.errands import ask, errand, plain
from tests.support.errands import script as errands
from tests.support.parcels import LEASE, Parcel, job_of, script, send

DAY = timedelta(days=1)


def fail(*_args):
    raise ValueError("no\nreally")


def fail_elsewhere(*_args):
    raise ValueError("no")


def fail_in_a_library(*_args):
    json.loads("{")


def told(found):
    """The groups in short."""
    return [
        (g.key, g.error_type, g.place.function, g.attempts, g.jobs, g.records)
        for g in found.groups
    ]


def test_attempts_are_put_together_by_key_error_and_place(home, clock):
    script.send = fail
    send(home, 2)
    errands.plain = fail
    newest = [ask(home, plain, 1), ask(home, plain, 2)][-1]
    for _ in range(2):
        home.drain()
        clock.advance(minutes=1)
    errands.plain = fail_elsewhere
    home.drain()

    found = job_errors(home.desk, since=DAY)

    assert told(found) == [
        ("parcel.send", "ValueError", "fail", 6, 2, 2),
        ("errand.plain", "ValueError", "fail", 4, 2, 0),
        ("errand.plain", "ValueError", "fail_elsewhere", 2, 2, 0),
    ]
    assert found.groups[1].job_id == newest
    assert found.groups[1].message == "no"
    assert found.groups[0].place.file == __file__


def test_the_place_is_in_code_of_the_users_whatever_library_raised(home):
    errands.plain = fail_in_a_library
    ask(home, plain, 1)
    home.drain()

    (group,) = job_errors(home.desk, since=DAY).groups

    assert group.error_type == "json.decoder.JSONDecodeError"
    assert group.place.function == "fail_in_a_library"
    assert group.message.startswith("Expecting property name")


def test_what_is_older_is_left_out(home, clock):
    errands.plain = fail
    ask(home, plain, 1)
    home.drain()
    clock.advance(hours=3)
    errands.plain = lambda _number: None
    errands.errand = fail_elsewhere
    ask(home, errand)
    home.drain()

    assert told(job_errors(home.desk, since=timedelta(hours=1))) == [
        ("errand.run", "ValueError", "fail_elsewhere", 1, 1, 0)
    ]
    assert len(job_errors(home.desk, since=timedelta.max).groups) == 2


def test_a_crash_has_no_place(app, clock):
    (key,) = send(app)
    app.runner().claim("default", limit=1)
    clock.advance(LEASE + timedelta(seconds=1))
    app.runner().rescue()

    (group,) = job_errors(app.desk, since=DAY).groups

    assert (group.error_type, group.place, group.records) == ("crashed", None, 1)
    assert group.job_id == job_of(app, Parcel, key).id


def test_no_more_than_the_newest_are_looked_at(home, clock, monkeypatch):
    monkeypatch.setattr(module, "MOST_READ", 700)
    job_id = ask(home)
    with home.engine.begin() as connection:
        connection.execute(
            insert(attempts),
            [
                {
                    "job_id": job_id,
                    "attempt": number,
                    "outcome": "failed",
                    "error_type": "ValueError",
                    "finished_at": clock.now(),
                }
                for number in range(1, 1202)
            ],
        )

    found = job_errors(home.desk, since=DAY)

    assert (found.groups[0].attempts, found.has_more) == (700, True)
    monkeypatch.setattr(module, "MOST_READ", 1201)
    found = job_errors(home.desk, since=DAY)
    assert (found.groups[0].attempts, found.has_more) == (1201, False)


def test_nothing_is_wrong(home):
    ask(home)
    home.drain()

    assert job_errors(home.desk, since=DAY).groups == ()


def test_a_time_that_cannot_be_read_hides_nothing(home):
    errands.plain = fail
    ask(home, plain, 1)
    home.drain()
    wrong = "infinity" if home.engine.dialect.name == "postgresql" else "x"
    with home.engine.begin() as connection:
        connection.execute(
            text(f"UPDATE statejobs_attempts SET finished_at = '{wrong}'")
        )

    assert len(job_errors(home.desk, since=DAY).groups) == 1
