"""What the database refuses is told by what it is, and one missing table hides no other thing."""

import pytest
from sqlalchemy import make_url, text

from tests.cli.conftest import Shell, job_of


def on(url):
    return Shell(database=url.render_as_string(hide_password=False))


def told(result):
    """The three lines of an error, without what comes first in each."""
    what, why, fix = (line.split(": ", 1)[1] for line in result.stderr.splitlines())
    return what, why, fix


@pytest.fixture
def clerk(postgres_url):
    """A role that may do nothing; the URL by which it connects."""
    from sqlalchemy import create_engine

    engine = create_engine(make_url(postgres_url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.execute(text("CREATE ROLE bare_clerk LOGIN"))
    yield make_url(postgres_url).set(username="bare_clerk")
    with engine.begin() as connection:
        connection.execute(text("DROP OWNED BY bare_clerk"))
        connection.execute(text("DROP ROLE bare_clerk"))
    engine.dispose()


@pytest.mark.postgres
@pytest.mark.parametrize(
    "wrong", [{"username": "nobody_here"}, {"database": "nowhere_here"}]
)
def test_a_wrong_role_or_database_is_no_missing_table(postgres_url, wrong):
    result = on(make_url(postgres_url).set(**wrong))("status")

    what, why, fix = told(result)
    assert result.exit_code == 2
    assert what == "the database lets nobody in this way"
    assert "does not exist" in why
    assert fix.startswith(
        "mend the user, the password or the name of the database in the URL"
    )


@pytest.mark.postgres
def test_a_missing_privilege_is_named(work, clerk):
    if work.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no roles")
    result = on(clerk)("status")

    what, why, fix = told(result)
    assert result.exit_code == 2
    assert what == "a privilege is missing in the database"
    assert "permission denied" in why
    assert fix.startswith("GRANT it")


def test_a_dropped_column_is_called_a_column(typed, work):
    with work.engine.begin() as connection:
        connection.execute(
            text("ALTER TABLE statejobs_jobs RENAME COLUMN tags TO labels")
        )

    result = typed("job", "list")

    what, why, fix = told(result)
    assert result.exit_code == 2
    assert what == "a column is missing in the database"
    assert "tags" in why
    assert "statejobs db upgrade" in fix


def test_status_shows_the_rest_when_one_table_of_the_users_is_missing(typed, work):
    with work.engine.begin() as connection:
        connection.execute(text("DROP TABLE parcels"))

    page = typed("status")

    document = typed.json("status")
    assert page.exit_code == 0
    assert "cannot be counted: " in page.stdout
    assert document["records"]["Task"]["failed"] == 1
    assert "parcels" in document["uncounted"]["Parcel"]
    assert "Parcel" not in document["records"]


def next_of(typed, job):
    return typed("job", "show", str(job.id)).stdout.partition("Next\n")[2].strip()


def test_show_proposes_a_retry_where_one_would_be_heeded(typed, work):
    job = job_of(work, "3")

    assert next_of(typed, job) == f"statejobs job retry {job.id}"
    assert typed.json("job", "show", str(job.id))["no_retry"] is None


def test_show_proposes_no_retry_of_a_job_whose_record_is_gone(typed, work):
    job = job_of(work, "3")
    with work.engine.begin() as connection:
        connection.execute(text("DELETE FROM tasks WHERE id = 3"))

    shown = next_of(typed, job)
    what, why, fix = told(typed("job", "retry", str(job.id)))

    assert shown == "it cannot be retried: its record, Task 3, is gone"
    assert what == f"job {job.id} cannot go on"
    assert why == "its record, Task 3, is gone"
    assert fix == "statejobs status"


def test_show_proposes_no_retry_of_a_job_whose_record_has_come_to_its_end(typed, work):
    job = job_of(work, "3")
    with work.engine.begin() as connection:
        connection.execute(text("UPDATE tasks SET state = 'completed' WHERE id = 3"))

    shown = next_of(typed, job)

    assert shown.startswith(
        "it cannot be retried: no transition from 'completed' runs "
    )
    assert typed("job", "retry", str(job.id)).exit_code == 4


def test_show_proposes_no_retry_that_a_guard_refuses(typed, work):
    job = job_of(work, "3")
    with work.engine.begin() as connection:
        connection.execute(text("UPDATE tasks SET note = 'locked' WHERE id = 3"))

    assert "says no now" in next_of(typed, job)
