"""The documents of `--json`: their keys are a promise."""

import json
from datetime import UTC, datetime
from urllib.parse import unquote

import pytest
from sqlalchemy import delete, insert, make_url, update

from statejobs import Domain, JobState, StateJobs, utcnow
from statejobs.store import schema
from statejobs.store.engines.addresses import shown_url
from statejobs.store.engines.factory import open_engine
from statejobs.store.nodes import register_node
from statejobs.store.tables import jobs, nodes
from tests.cli.conftest import Shell, job_of
from tests.support.leaflets import Leaflet, Poster, print_shop
from tests.support.worker_app import Task

LATER = datetime(2090, 1, 1, tzinfo=UTC)
JOB = {
    "id",
    "key",
    "queue",
    "priority",
    "state",
    "outcome",
    "reason",
    "resource",
    "record_id",
    "args",
    "tags",
    "meta",
    "actor",
    "tenant",
    "attempt",
    "max_attempts",
    "crashes",
    "snoozes",
    "cancel_requested",
    "run_again",
    "progress",
    "idempotency_key",
    "node",
    "enqueued_at",
    "run_at",
    "started_at",
    "finished_at",
    "lease_until",
    "unique_until",
}
ATTEMPT = {
    "job_id",
    "attempt",
    "outcome",
    "error_type",
    "message",
    "traceback",
    "node",
    "started_at",
    "finished_at",
}
STEP = {
    "at",
    "name",
    "source",
    "target",
    "version",
    "actor",
    "tenant",
    "job_id",
    "attempt",
    "args",
    "reason",
    "duration_seconds",
}
QUEUE = {
    "queue",
    "limit",
    "states",
    "at_least",
    "oldest_queued_at",
    "oldest_queued_seconds",
    "workers",
}


def test_status_shows_queues_workers_and_records(typed):
    document = typed.json("status")

    assert set(document) == {
        "app",
        "database",
        "queues",
        "unserved",
        "workers",
        "records",
        "uncounted",
        "stuck",
        "put_aside",
        "waiting_for_other_code",
        "paused",
    }
    assert document["stuck"] == []
    assert [set(queue) for queue in document["queues"]] == [QUEUE, QUEUE]
    by_name = {queue["queue"]: queue for queue in document["queues"]}
    assert by_name["work"]["limit"] == 4
    assert by_name["work"]["states"] == {
        **{state.value: 0 for state in JobState},
        "completed": 1,
        "failed": 1,
        "discarded": 1,
    }
    assert by_name["slow"]["oldest_queued_seconds"] >= 0
    assert document["workers"] == []
    assert document["records"]["Task"]["failed"] == 1
    assert list(document["records"]) == ["Task", "Parcel", "Crate"]


def test_status_shows_a_worker_with_its_last_heartbeat(typed, work):
    worker = work.worker({"work": 3})
    worker.start()
    try:
        (shown,) = typed.json("status")["workers"]
    finally:
        worker.stop()

    assert shown["node"] == worker.node_id
    assert shown["queues"] == {"work": 3}
    assert shown["lives"] is True
    assert set(shown) == {
        "node",
        "host",
        "pid",
        "queues",
        "version",
        "started_at",
        "beat_at",
        "clock_offset",
        "held_keys",
        "lives",
    }


def test_queue_list_shows_every_queue(typed):
    document = typed.json("queue", "list")

    assert [queue["queue"] for queue in document["queues"]] == ["work", "slow"]


def test_job_list_shows_the_newest_first(typed, work):
    document = typed.json("job", "list", "--limit", "2")

    assert [job["id"] for job in document["jobs"]] == [
        job.id for job in work.queries.jobs(limit=2)
    ]
    assert all(set(job) == {*JOB, "error"} for job in document["jobs"])
    assert document["has_more"] is True


@pytest.mark.parametrize(
    ("filters", "records"),
    [
        (["--state", "discarded"], ["3"]),
        (["--state", "discarded", "--state", "completed"], ["3", "1"]),
        (["--queue", "slow"], ['"box 7"']),
        (["--key", "parcel.ship"], ['"box 7"']),
        (["--resource", "task", "--record", "2"], ["2"]),
    ],
)
def test_job_list_filters(typed, filters, records):
    document = typed.json("job", "list", *filters)

    found = {job["record_id"] for job in document["jobs"]}
    assert found == set(records)


def test_job_show_shows_job_attempts_and_history(typed, work):
    job = job_of(work, "3")

    document = typed.json("job", "show", str(job.id))

    assert set(document) == {
        "job",
        "attempts",
        "history",
        "result",
        "obstacle",
        "no_retry",
    }
    assert set(document["job"]) == JOB
    assert [attempt["attempt"] for attempt in document["attempts"]] == [1, 2]
    assert set(document["attempts"][0]) == ATTEMPT
    assert document["attempts"][0]["message"] == "the gateway is down"
    assert set(document["history"][0]) == STEP
    assert document["history"][-1]["target"] == "failed"
    assert document["history"][1]["actor"] == "user:7"


def test_times_are_iso_8601_in_utc(typed, work):
    job = job_of(work, "1")

    shown = typed.json("job", "show", str(job.id))["job"]["enqueued_at"]

    assert shown.endswith("Z")
    assert datetime.fromisoformat(shown) == job.enqueued_at.astimezone(UTC)


def test_record_show_says_what_can_happen_and_why_not(typed):
    document = typed.json("record", "show", "task", "4")

    ways = {way["name"]: way for way in document["transitions"]}
    assert document["state"] == "draft"
    assert ways["submit"]["why_not"] == ["It is locked."]
    assert ways["cancel"]["available"] is True
    assert "starts from 'failed'" in ways["retry"]["why_not"][0]
    assert set(document) == {
        "resource",
        "record_id",
        "state",
        "state_version",
        "state_changed_at",
        "is_final",
        "transitions",
        "obstacle",
        "jobs",
        "timeline",
    }


def test_record_show_puts_attempts_between_the_steps(typed):
    timeline = typed.json("record", "show", "Task", "3")["timeline"]

    told = [event.get("name") or event["outcome"] for event in timeline]
    assert told == [
        "create",
        "submit",
        "do_it.start",
        "do_it.return",
        "failed",
        "do_it.start",
        "do_it.discard",
        "failed",
    ]


def test_a_key_of_text_needs_no_quotes(typed):
    assert typed.json("record", "show", "Parcel", "box 7")["record_id"] == '"box 7"'


def test_diagram_draws_a_resource(typed):
    (machine,) = typed.json("diagram", "Task")["machines"]

    assert machine["mermaid"].startswith("stateDiagram-v2")
    assert set(machine) == {
        "name",
        "states",
        "initial",
        "final",
        "edges",
        "schedules",
        "mermaid",
    }
    assert typed("diagram", "Task").stdout.startswith("stateDiagram-v2")


def test_diagram_draws_the_life_of_a_job_without_an_app(shell):
    shell.app = None

    (machine,) = shell.json("diagram", "job")["machines"]

    assert machine["states"] == [state.value for state in JobState]


def test_db_upgrade_makes_the_tables_once(shell, database_url):
    shell.database = database_url

    assert shell.json("db", "upgrade") == {"from": None, "to": "0005", "changed": True}
    assert shell.json("db", "upgrade") == {
        "from": "0005",
        "to": "0005",
        "changed": False,
    }


def test_db_upgrade_waits_for_the_end_of_old_workers_on_sqlite(shell, sqlite_url):
    shell.database = sqlite_url
    engine = open_engine(sqlite_url)
    schema.upgrade(engine, "0003")
    row = {"id": "n", "host": "box", "pid": 7, "queues": "{}", "version": "0"}
    now = utcnow()
    with engine.begin() as connection:
        connection.execute(insert(nodes).values(**row, started_at=now, beat_at=now))

    refused = shell("db", "upgrade")

    assert refused.exit_code != 0
    assert "while a worker is alive: box:7" in refused.stderr
    with engine.begin() as connection:
        connection.execute(delete(nodes))
    assert shell.json("db", "upgrade")["changed"] is True
    engine.dispose()


def test_db_upgrade_prints_sql_and_touches_nothing(shell, database_url):
    shell.database = database_url

    sql = shell("db", "upgrade", "--sql").stdout
    document = shell.json("db", "upgrade", "--sql")

    assert "CREATE TABLE statejobs_jobs" in sql
    assert document["sql"].strip() == sql.strip()
    assert shell("db", "check").exit_code == 1


def test_db_check_finds_missing_tables(shell, database_url):
    shell.database = database_url
    engine = open_engine(database_url)
    engine.connect().close()  # now SQLite has a file
    engine.dispose()

    document = shell.json("db", "check", exit_code=1)

    assert document["ok"] is False
    assert "lacks the tables" in document["error"]["what"]


def test_db_check_is_content_with_an_upgraded_database(typed):
    assert typed.json("db", "check") == {
        "ok": True,
        "revision": "0005",
        "needed": "0005",
        "error": None,
    }


def test_a_job_whose_queue_nobody_serves_says_so(typed, work):
    job = job_of(work, '"box 7"', "Parcel")
    with work.engine.begin() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job.id).values(queue="slwo"))

    obstacle = "no worker of this app serves queue 'slwo'; did you mean 'slow'?"
    assert typed.json("job", "show", str(job.id))["obstacle"] == obstacle
    assert obstacle in typed("job", "show", str(job.id)).stdout.split("Next")[1]
    assert typed.json("job", "show", str(job_of(work, "1").id))["obstacle"] is None


@pytest.mark.parametrize(
    ("values", "is_said"),
    [
        ({"state": "queued"}, True),
        ({"state": "failed", "attempt": 1}, True),
        ({"state": "scheduled"}, True),
        ({"state": "failed", "run_at": LATER}, False),
        ({"state": "scheduled", "run_at": LATER}, False),
        ({"state": "processing"}, False),
    ],
)
def test_a_job_that_is_due_says_that_no_worker_lives(typed, work, values, is_said):
    job = job_of(work, '"box 7"', "Parcel")
    with work.engine.begin() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job.id).values(**values))
    said = f"no worker serves queue '{job.queue}': start one with  statejobs worker"

    assert (typed.json("job", "show", str(job.id))["obstacle"] == said) is is_said
    now = work.sources.clock.now()
    node = {
        "id": "n",
        "host": "h",
        "pid": 1,
        "version": "1",
        "started_at": now,
        "beat_at": now,
    }
    register_node(work.store, {**node, "queues": json.dumps({job.queue: 1})})
    assert typed.json("job", "show", str(job.id))["obstacle"] is None


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["queue", "list"],
        ["job", "list"],
        ["job", "show", "1"],
        ["job", "retry", "1"],
        ["job", "cancel", "1"],
        ["record", "show", "Task", "1"],
        ["prune"],
        ["db", "check"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("place", ["mistyped.db", "no/dir/mistyped.db"])
def test_a_sqlite_file_that_is_not_there_is_refused_and_not_made(
    shell, tmp_path, words, place
):
    shell.database = f"sqlite:///{tmp_path}/{place}"

    result = shell(*words)

    assert result.exit_code != 0
    assert f"no such file: {tmp_path}/{place}" in result.output
    assert list(tmp_path.iterdir()) == []


def test_what_needs_no_table_works_without_a_file(shell, tmp_path):
    shell.database = f"sqlite:///{tmp_path}/new.db"

    assert shell("diagram", "Task").exit_code == 0
    assert shell("db", "upgrade").exit_code == 0
    assert shell("status").exit_code == 0


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (
            "postgresql+psycopg://me:@/db?host=/run/pg",
            "postgresql://me@/db?host=/run/pg",
        ),
        ("postgresql+psycopg://me:x@h:5/db?sslmode=on", "postgresql://me:***@h:5/db"),
        (
            "postgresql+psycopg:///db?host=a&host=b&port=1&port=2&password=x",
            "postgresql:///db?host=a&host=b&port=1&port=2",
        ),
        ("sqlite+pysqlite:////tmp/a.db?timeout=5", "sqlite:////tmp/a.db"),
    ],
)
def test_the_name_of_a_database_says_where_it_is_and_no_secret(url, shown):
    assert unquote(shown_url(make_url(url))) == shown


def test_a_record_that_waits_for_nothing_says_so(typed, work):
    with work.session() as session:
        task = Task(id=9)
        session.add(task)
        task.submit()
        session.commit()
    job = job_of(work, "9")
    with work.engine.begin() as connection:
        # as a guard that refuses at the claim leaves it
        ended = {"state": JobState.CANCELLED, "reason": "stale: It is locked."}
        connection.execute(update(jobs).where(jobs.c.id == job.id).values(**ended))

    document = typed.json("record", "show", "Task", "9")

    assert document["obstacle"] == (
        f"it waits in 'queued', and nothing runs: job {job.id} of 'task.perform' is cancelled "
        f"(stale: It is locked.). Let it go on with: statejobs job retry {job.id}"
    )
    assert document["obstacle"] in typed("record", "show", "Task", "9").stdout
    assert typed.json("record", "show", "Task", "1")["obstacle"] is None


def test_a_record_that_rests_where_its_job_left_it_waits_for_nothing(database_url):
    with print_shop(database_url) as app:
        with app.session() as session:
            leaflet = Leaflet(id=1)
            session.add(leaflet)
            leaflet.approve()
            leaflet.archive()
            leaflet.restore()
            session.commit()
        assert app.drain().counts == {"complete": 1}
    typed = Shell(app=f"{__name__}:make_print_shop", database=database_url)

    document = typed.json("record", "show", "Leaflet", "1")

    assert (document["state"], document["obstacle"]) == ("approved", None)


def make_print_shop(database):
    """For the command line."""
    return StateJobs(database, domains=[Domain("print", resources=[Leaflet, Poster])])


def test_a_running_job_shows_no_reason_of_an_earlier_attempt(typed, work):
    job = job_of(work, "2")
    assert job.reason.startswith("RuntimeError: ")
    with work.engine.begin() as connection:
        running = {
            "state": JobState.PROCESSING,
            "started_at": work.sources.clock.now(),
            "owner": "n",
        }
        connection.execute(update(jobs).where(jobs.c.id == job.id).values(**running))

    shown = {row["id"]: row["reason"] for row in typed.json("job", "list")["jobs"]}

    assert shown[job.id] is None
    assert "RuntimeError" not in typed("job", "list", "--record", "2").stdout
