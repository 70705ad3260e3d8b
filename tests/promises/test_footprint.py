"""P23: a worker's connections and memory are bounded. (Idle queries: `tests/worker`.)"""

import re
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from statejobs.store.tables import jobs
from tests.promises.app import SLOTS, opened
from tests.support.processes import eventually, worker
from tests.support.rounds import Call, Errand, S, add, count
from tests.support.size import size

APP = "tests.promises.app:make_app"
WARM_UP, MORE = size(200, 10_000), size(600, 200_000)
MEGABYTES = 10
pytestmark = [
    pytest.mark.timeout(size(600, 3600)),
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks into /proc"),
]


def resident(pid):
    """Megabytes that a process holds."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


def run(app, number):
    """Enqueue *number* jobs, and wait for their end."""
    for first in range(0, number, 2000):
        add(app, Errand, *["nothing"] * min(2000, number - first))
        eventually(lambda: count(app, Errand, S.QUEUED, S.RUNNING) == 0)


def test_memory_stays_flat(database_url, tmp_path):
    with opened(database_url) as app, worker(database_url, tmp_path / "log", app=APP):
        (node,) = eventually(app.queries.nodes)
        run(app, WARM_UP)
        before = resident(node["pid"])

        run(app, MORE)
        grown = resident(node["pid"]) - before

    print(f"{MORE} jobs: from {before:.1f} MB, {grown:+.1f} MB")  # noqa: T201
    assert grown <= MEGABYTES


@pytest.mark.postgres
def test_a_worker_takes_few_connections(postgres_url, tmp_path):
    most = 0
    others = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND backend_type = 'client backend'"
        " AND pid <> pg_backend_pid()"
    )
    with opened(postgres_url) as app:
        add(app, Errand, *["work"] * 300)
        add(app, Call, *["nothing"] * 100)
        app.engine.dispose()
        with (
            app.engine.connect() as looking,
            worker(postgres_url, tmp_path / "log", app=APP),
        ):
            until = time.monotonic() + 30
            pending = text(
                f"SELECT count(*) FROM {jobs.name} WHERE state <> 'completed'"
            )
            while looking.scalar(pending) and time.monotonic() < until:
                most = max(most, looking.scalar(others))
                looking.rollback()
                time.sleep(0.01)  # noqa: TID251
            assert looking.scalar(pending) == 0

    print(f"at most {most} connections for {2 * SLOTS} slots")  # noqa: T201
    assert 0 < most <= 4 + 2 * SLOTS
