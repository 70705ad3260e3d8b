"""What a real worker writes."""

import re
import signal

from tests.worker.conftest import send_parcel


def test_each_attempt_is_one_line(app, start_worker, tmp_path):
    until = tmp_path / "now"
    until.touch()
    send_parcel(app, until)

    running = start_worker(app)
    running.wait_for("completed")
    running.signal(signal.SIGTERM)
    running.end()

    (line,) = re.findall(r".*statejobs\.jobs: .*", running.said())
    assert "INFO" in line
    assert line.endswith("completed")
