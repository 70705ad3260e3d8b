"""What cannot be read of a row is marked; it hides no other row, and is no traceback."""

import json
from datetime import timedelta

import pytest

from statejobs import NotFoundError
from tests.cli.conftest import job_of
from tests.support.worker_app import Task

DEEP = "[" * 5_000 + "]" * 5_000
EVERYWHERE = {
    "state": ("statejobs_jobs", "state = 'strange'"),
    "progress": ("statejobs_jobs", "progress = '{'"),
    "other-progress": ("statejobs_jobs", "progress = '[1]'"),
    "arguments": ("statejobs_jobs", "args = 'x'"),
    "deep-arguments": ("statejobs_jobs", f"args = '{DEEP}'"),
    "half-deep-arguments": ("statejobs_jobs", f"args = '{DEEP[4_700:5_300]}'"),
    "no-number": ("statejobs_jobs", """args = '{"a": NaN, "b": 1e999}'"""),
    "lone-surrogate": ("statejobs_jobs", """args = '{"a": "\\ud800"}'"""),
    "many-digits": ("statejobs_jobs", f"""args = '{{"a": {"7" * 5_000}}}'"""),
    "tags": ("statejobs_jobs", "tags = ''"),
    "arguments-of-history": ("statejobs_transitions", "args = '}'"),
}
ON_SQLITE = {
    "endless-time-of-history": ("statejobs_transitions", "duration = 9e999"),
    "no-number-in-history": ("statejobs_transitions", "duration = 'long'"),
    "not-utf-8": ("statejobs_jobs", "args = CAST(x'ff' AS TEXT)"),
    "reason-not-utf-8": ("statejobs_jobs", "reason = CAST(x'fffe' AS TEXT)"),
    "no-time": ("statejobs_jobs", "run_at = 'soon', finished_at = 'later'"),
    "no-truth": ("statejobs_jobs", "run_again = 'perhaps'"),
    "no-time-of-attempt": ("statejobs_attempts", "finished_at = 'once'"),
    "no-time-of-history": ("statejobs_transitions", "at = 'once'"),
    "message-not-utf-8": ("statejobs_attempts", "message = CAST(x'ff' AS TEXT)"),
}
ON_POSTGRESQL = {
    "no-number-in-history": ("statejobs_transitions", "duration = 'NaN'"),
    "no-end": ("statejobs_jobs", "run_at = 'infinity', finished_at = '-infinity'"),
    "no-time-of-attempt": ("statejobs_attempts", "finished_at = 'infinity'"),
    "no-time-of-history": ("statejobs_transitions", "at = 'infinity'"),
}
PLACES = [
    *EVERYWHERE.items(),
    *((f"sqlite-{name}", place) for name, place in ON_SQLITE.items()),
    *((f"postgresql-{name}", place) for name, place in ON_POSTGRESQL.items()),
]


def spoil(work, place):
    """Write nonsense past statejobs into every row of the job and record that failed."""
    table, values = place
    job = job_of(work, "3")
    key = {"statejobs_jobs": "id", "statejobs_attempts": "job_id"}.get(
        table, "record_id"
    )
    value = "'3'" if key == "record_id" else str(job.id)
    with work.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {table} SET {values} WHERE {key} = {value}")
    return job


@pytest.mark.parametrize("option", [[], ["--json"]], ids=["text", "json"])
@pytest.mark.parametrize(("name", "place"), PLACES, ids=[name for name, _ in PLACES])
def test_a_broken_row_fails_no_page(typed, work, name, place, option):
    kind = name.partition("-")[0]
    if kind in {"sqlite", "postgresql"} and kind != work.engine.dialect.name:
        pytest.skip("no such value there")
    job = spoil(work, place)

    for words in (
        ["status"],
        ["queue", "list"],
        ["job", "list"],
        ["job", "show", str(job.id)],
        ["record", "show", "Task", "3"],
        ["job", "list", "--resource", "Task", "--record", "3"],
    ):
        result = typed(*words, *option)
        assert result.exit_code == 0, (words, result.output)
        if option:
            json.loads(result.stdout, parse_constant=pytest.fail)

    listed = typed("job", "list").stdout
    assert listed.count("\n") == 5
    assert "task.perform" in listed


BROKEN_WORKERS = [
    *(
        f"queues = '{text}'"
        for text in ("x", "3", "null", "[1]", '"work"', '{"work": null}')
    ),
    *(
        f"held = '{text}'"
        for text in ("x", "3", "null", "[1]", "[{}]", '{"key": 1}', '"task"')
    ),
    """held = '[{"key": 1, "reason": 2, "retry_seconds": "soon"}, [3]]'""",
    "clock_offset = 9e999",
    "clock_offset = 'NaN'",
]


@pytest.mark.parametrize("values", BROKEN_WORKERS)
def test_a_broken_row_of_a_worker_fails_no_page(typed, work, values):
    """On SQLite a column of numbers holds any text."""
    if "9e999" in values and work.engine.dialect.name == "postgresql":
        values = values.replace("9e999", "'-Infinity'")
    work.worker({"work": 3}).register()
    with work.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE statejobs_nodes SET {values}")
        connection.exec_driver_sql(
            "UPDATE statejobs_jobs SET queue = 'wrok' WHERE key LIKE 'par%%'"
        )

    for words in (["status"], ["queue", "list"], ["job", "show", "4"]):
        assert typed(*words).exit_code == 0, words
        told = typed(*words, "--json")
        assert told.exit_code == 0, words
        json.loads(told.stdout, parse_constant=pytest.fail)


@pytest.mark.parametrize(
    "values",
    [
        "resource = 'Removed'",
        "record_id = 'x'",
        "record_id = '[1, 2]'",
        "record_id = ''",
    ],
)
def test_a_job_whose_record_nobody_can_name_any_more_is_shown_with_its_history(
    typed, work, values
):
    job = spoil(work, ("statejobs_jobs", values))
    spoil_history(work, values)

    document = typed.json("job", "show", str(job.id))

    assert [step["name"] for step in document["history"]][:2] == ["create", "submit"]
    assert len(document["attempts"]) == 2
    assert "History of" in typed("job", "show", str(job.id)).stdout
    assert typed("job", "list").exit_code == typed("status").exit_code == 0


def spoil_history(work, values):
    """Write the same into the history of the record that failed."""
    with work.engine.begin() as connection:
        connection.exec_driver_sql(
            f"UPDATE statejobs_transitions SET {values} WHERE record_id = '3'"
        )


def test_a_row_that_cannot_be_read_says_what(typed, work):
    broken = "reason = NULL, started_at = 'infinity'"
    if work.engine.dialect.name == "sqlite":
        broken = "reason = NULL, started_at = 'once'"
    job = spoil(work, ("statejobs_jobs", broken))

    shown = typed.json("job", "show", str(job.id))["job"]

    assert shown["reason"] == "cannot be read: started_at"
    assert shown["key"] == "task.perform"
    assert shown["started_at"] is None


def test_a_job_in_a_state_that_nobody_knows_is_listed_in_it(typed, work):
    job = spoil(work, ("statejobs_jobs", "state = 'paused'"))

    assert typed.json("job", "show", str(job.id))["job"]["state"] == "paused"
    assert "paused" in typed("job", "list").stdout


@pytest.mark.parametrize("number", [10**30, 2**63, 2**31, 0, -1])
def test_no_number_is_too_large_to_look_for(typed, work, number):
    assert typed("job", "show", "--", str(number)).exit_code == 3
    assert typed("job", "retry", "--", str(number)).exit_code == 3
    assert typed("record", "show", "Task", "--", str(number)).exit_code == 3
    assert work.queries.job(number) is None
    assert work.queries.attempts(number) == []
    for act in (work.retry_job, work.cancel_job, work.why_no_retry):
        with pytest.raises(NotFoundError):
            act(number)


def test_a_record_whose_row_cannot_be_read_is_no_traceback(typed, work):
    if work.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL holds no such value")
    with work.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE tasks SET note = CAST(x'ff' AS TEXT) WHERE id = 3"
        )

    result = typed("record", "show", "Task", "3")

    assert result.exit_code == 1
    assert "error: Task 3 cannot be read" in result.stderr


@pytest.mark.parametrize("limit", [10**20, 2**63, 0, -1])
def test_a_limit_that_none_can_mean_is_refused_in_words(typed, limit):
    result = typed("job", "list", f"--limit={limit}")

    assert result.exit_code == 2
    assert f"{limit} is not in the range 1<=x<=1000000" in result.stderr


def test_any_limit_may_be_asked_of_the_queries(work):
    assert len(work.queries.jobs(limit=10**20)) == 4
    assert work.queries.stuck(limit=10**20) == []
    assert work.queries.put_aside(limit=10**20) == []


@pytest.mark.parametrize("grace", ["nan", "inf", "-1", "1e+300", "-inf"])
def test_a_grace_without_an_end_is_refused(typed, grace):
    result = typed("worker", f"--grace={grace}")

    assert result.exit_code == 2
    assert f"'{grace}' is not a number of seconds" in result.stderr


def test_every_queue_is_counted_beside_a_strange_row(typed, work):
    spoil(work, ("statejobs_jobs", "state = 'strange', queue = 'elsewhere'"))
    with work.session() as session:
        task = Task(id=9)
        session.add(task)
        task.submit()
        session.commit()

    queues = {q["queue"]: q for q in typed.json("queue", "list")["queues"]}

    assert queues["work"]["states"]["queued"] == 1
    assert timedelta(seconds=queues["work"]["oldest_queued_seconds"]) < timedelta(
        minutes=5
    )


SPOILED = [
    ("statejobs_jobs", "queue = x'ff00fe'", ["status"]),
    ("statejobs_jobs", "queue = CAST(x'ff' AS TEXT)", ["queue", "list"]),
    ("statejobs_jobs", "queue = CAST(x'ff' AS TEXT)", ["status", "--json"]),
    ("statejobs_jobs", "attempt = 1e999", ["job", "list", "--json"]),
    ("statejobs_jobs", "coalesced = 'x'", ["job", "list", "--json"]),
    ("statejobs_jobs", "finished_at = '2020-13-45 99:99:99'", ["prune", "--dry-run"]),
    ("statejobs_transitions", "duration = 'x'", ["record", "show", "Task", "3"]),
    ("statejobs_transitions", "name = x'ff'", ["record", "show", "Task", "3"]),
    (
        "statejobs_transitions",
        "version = 1e999",
        ["record", "show", "Task", "3", "--json"],
    ),
]


@pytest.mark.parametrize(("table", "values", "words"), SPOILED)
def test_a_value_of_another_kind_is_marked(typed, work, table, values, words):
    if work.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL holds no such value")
    with work.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {table} SET {values} WHERE record_id = '3'")

    result = typed(*words)

    assert result.exit_code == 0, result.output
    if "--json" in words:
        json.loads(result.stdout, parse_constant=pytest.fail)


@pytest.mark.parametrize("duration", ["NaN", "Infinity", "-Infinity"])
def test_json_holds_no_number_that_json_has_not(typed, work, duration):
    if work.engine.dialect.name == "sqlite":
        pytest.skip("SQLite holds no such number, or shows it above")
    with work.engine.begin() as connection:
        connection.exec_driver_sql(
            f"UPDATE statejobs_transitions SET duration = '{duration}'"
        )

    result = typed("record", "show", "Task", "3", "--json")

    json.loads(result.stdout, parse_constant=pytest.fail)
