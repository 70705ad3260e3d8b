"""A worker inside a program logs what one of the command line logs: a line for each attempt."""

import asyncio
import logging
import subprocess
import sys
import textwrap

import pytest

from tests.support.parcels import Parcel, job_of, script, send
from tests.support.processes import eventually


@pytest.fixture
def lines(caplog):
    """What was logged of jobs, with its level."""
    caplog.set_level(logging.INFO, "statejobs")
    return lambda: [
        (record.levelname, record.getMessage())
        for record in caplog.records
        if record.name == "statejobs.jobs"
    ]


def fail(*_):
    raise ValueError("no such card")


def wait_for_ends(app, *keys):
    waiting = {"queued", "processing"}
    eventually(
        lambda: all(job_of(app, Parcel, key).state not in waiting for key in keys)
    )


def test_a_worker_in_threads_logs_how_each_attempt_ended(app, lines):
    with app.running():
        (good,) = send(app)
        wait_for_ends(app, good)
        script.send = fail
        (bad,) = send(app)
        wait_for_ends(app, bad)

    (done, failed) = lines()
    assert (done[0], failed[0]) == ("INFO", "WARNING")
    assert f"parcel.send (Parcel {good}), attempt 1 of 3" in done[1]
    assert done[1].endswith(": completed")
    assert ": failed: ValueError: no such card; again in " in failed[1]


def test_a_worker_beside_a_loop_does_so_too(app, lines):
    async def live():
        async with app.lifespan():
            (key,) = send(app)
            await asyncio.to_thread(wait_for_ends, app, key)

    asyncio.run(live())

    assert len(lines()) == 1


def test_one_worker_after_another_and_two_at_once_log_no_line_twice(app, lines):
    with app.running():
        pass
    with app.running(), app.running():
        keys = send(app, 3)
        wait_for_ends(app, *keys)

    assert len(lines()) == 3


PROGRAM = """
import logging, sys
{before}
from tests.support.parcels import Parcel, job_of, post_office, script, send
from tests.runner.test_joblog import fail, wait_for_ends

with post_office({url!r}) as app:
    script.send = fail
    with app.running():
        (key,) = send(app)
        wait_for_ends(app, key)
"""


@pytest.mark.parametrize(
    ("before", "heard"),
    [
        ("", []),
        ("logging.basicConfig(level=logging.INFO)", ["WARNING:statejobs.jobs"]),
        (
            "logging.basicConfig(level=logging.INFO)\n"
            "logging.getLogger('statejobs').setLevel(logging.ERROR)",
            [],
        ),
    ],
    ids=["not set up", "set up", "asked to be quiet"],
)
def test_it_is_heard_by_who_set_up_logging(database_url, before, heard):
    program = textwrap.dedent(PROGRAM).format(before=before, url=database_url)

    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    told = [line for line in ran.stderr.splitlines() if "parcel.send" in line]
    assert [":".join(line.split(":")[:2]) for line in told] == heard
    if not before:
        assert ran.stderr == ""
