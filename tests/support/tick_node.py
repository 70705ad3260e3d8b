"""A node in a process of its own whose minutes are seconds: `python -m tests.support.tick_node`."""

import signal
import sys
import threading
import time
from datetime import datetime, timedelta

from statejobs import (
    Domain,
    JobContext,
    Sources,
    StateJobs,
    WorkerSettings,
    scheduled_action,
)
from tests.support.clock import NOON

FASTER = 60
MINUTE = timedelta(minutes=1)


@scheduled_action("bell.ring", cron="* * * * *", overlap="queue", catch_up="all")
def ring(ctx: JobContext) -> None:
    """Each minute."""


class FastClock:
    """Runs sixty times as fast as the machine, from the same moment in each process."""

    def __init__(self, since: float) -> None:
        self._since = since

    def now(self) -> datetime:
        return NOON + timedelta(seconds=(time.time() - self._since) * FASTER)

    def monotonic(self) -> float:
        return time.monotonic() * FASTER


def make_app(url: str, since: float) -> StateJobs:
    """An app that lives so fast."""
    return StateJobs(
        url,
        domains=[Domain("tower", tasks=[ring])],
        settings=WorkerSettings(
            lease=30 * MINUTE, heartbeat=5 * MINUTE, rescue=5 * MINUTE, poll=MINUTE / 2
        ),
        sources=Sources(
            clock=FastClock(since),
            wait=lambda awaited, seconds: awaited.wait(seconds / FASTER),
            sleep=lambda seconds: time.sleep(seconds / FASTER),  # noqa: TID251
        ),
    )


def main() -> None:
    """Run a worker until somebody ends this process."""
    url, since = sys.argv[1:]
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with make_app(url, float(since)) as app, app.running():
        ended.wait()


if __name__ == "__main__":
    main()
