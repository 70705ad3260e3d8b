"""What a real worker writes."""

import re
import signal

from tests.support.worker_app import Parcel


def test_each_attempt_is_one_line(app, start_worker, tmp_path):
    until = tmp_path / "now"
    until.touch()
    with app.session() as session:
        parcel = Parcel(id="p1", until=str(until))
        session.add(parcel)
        parcel.send()
        session.commit()

    running = start_worker(app)
    running.wait_for("completed")
    running.signal(signal.SIGTERM)
    running.end()

    (line,) = re.findall(r".*statejobs\.jobs: .*", running.said())
    assert "INFO" in line
    assert line.endswith("completed")
