"""`schedule next` tells when an expression runs, and what is wrong with one."""

from datetime import datetime, timedelta

from statejobs import utcnow

AUTUMN = "2026-10-24T12:00Z"


def test_it_shows_words_and_times_of_the_zone_and_in_utc(shell):
    told = shell(
        *("schedule", "next", "30 2 * * *", "--timezone", "Europe/Prague"),
        *("--after", AUTUMN, "--count", "2"),
    )

    assert told.exit_code == 0, told.output
    assert told.stdout.splitlines() == [
        "at 02:30 every day (Europe/Prague)",
        "Europe/Prague               in UTC",
        "Sun 2026-10-25 02:30 +0200  2026-10-25 00:30:00Z  in 12 h",
        "Mon 2026-10-26 02:30 +0100  2026-10-26 01:30:00Z  in 38 h",
    ]


def test_programs_get_a_document(shell):
    document = shell.json(
        "schedule", "next", "@daily", "--after", AUTUMN, "--count", "1"
    )

    assert document == {
        "expression": "@daily",
        "timezone": "UTC",
        "in_words": "at 00:00 every day (UTC)",
        "next": ["2026-10-25T00:00:00.000000Z"],
    }


def test_it_begins_now_and_shows_five(shell):
    before = utcnow()

    times = shell.json("schedule", "next", "* * * * *")["next"]

    assert len(times) == 5
    first = datetime.fromisoformat(times[0])
    assert timedelta() < first - before < timedelta(minutes=2)


def test_what_is_wrong_is_told_with_what_was_meant(shell):
    told = shell("schedule", "next", "*/10 * * * * *", "--timezone", "Europe/Prague")

    assert told.exit_code == 2
    what, why, fix = told.stderr.splitlines()
    assert what == "error: schedule next: '*/10 * * * * *' has six fields"
    assert why.endswith("month and weekday are all that there are")
    assert fix.startswith("  try: did you mean '*/10 * * * *', next at ")


def test_a_zone_that_there_is_not_is_told(shell):
    told = shell("schedule", "next", "@daily", "--timezone", "Prague")

    assert told.exit_code == 2
    assert "schedule next: no time zone 'Prague'" in told.stderr
    assert "did you mean 'Europe/Prague'?" in told.stderr
