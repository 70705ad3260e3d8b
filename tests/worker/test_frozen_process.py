"""A real process that is stopped while it holds rows: the server takes them from it."""

import signal
import time

import pytest
from sqlalchemy import update

from statejobs import JobState
from tests.support.processes import eventually, kill, worker
from tests.support.worker_app import Base, Crate, make_app

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(300)]


@pytest.fixture
def app(postgres_url):
    app = make_app(postgres_url)
    app.create_all()
    Base.metadata.create_all(app.engine)
    yield app
    app.engine.dispose()


def send_crate(app, until):
    with app.session() as session:
        crate = Crate(id=1, until=str(until))
        session.add(crate)
        crate.send()
        session.commit()


def job(app):
    (found,) = app.queries.jobs(resource="Crate", record_id="1")
    return found


def begun_by(go_on):
    """The process that holds the record now."""
    told = go_on.with_name(f"{go_on.name}.begun")
    return int(told.read_text() or 0) if told.exists() else 0


def test_a_stopped_process_that_holds_its_record_gives_it_up_and_its_job_runs_elsewhere(
    app, postgres_url, tmp_path
):
    go_on, log = tmp_path / "go", tmp_path / "log"
    send_crate(app, go_on)

    with worker(postgres_url, log):
        stopped = eventually(lambda: begun_by(go_on))
        kill(stopped, signal.SIGSTOP)
        try:
            began = time.monotonic()
            with app.engine.begin() as user:
                # waits until the server ends the transaction
                user.execute(
                    update(Crate.__table__).where(Crate.id == 1).values(note="seen")
                )
            waited = time.monotonic() - began
            with worker(postgres_url, tmp_path / "log2"):
                second = eventually(
                    lambda: begun_by(go_on) not in {0, stopped} and begun_by(go_on)
                )
                go_on.touch()
                eventually(lambda: job(app).state is JobState.COMPLETED)
        finally:
            kill(stopped, signal.SIGCONT)
        eventually(lambda: "late result" in log.read_text())

    assert 1 < waited < 60
    with app.session() as session:
        assert session.get_one(Crate, 1).note == f"carried by {second}"
    assert [row["outcome"] for row in app.queries.attempts(job(app).id)] == ["crashed"]
    assert (job(app).attempt, job(app).crashes) == (2, 1)
