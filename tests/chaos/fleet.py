"""Real workers: `statejobs worker` processes that are started again whenever they have ended."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from tests.chaos import app

ROOT = Path(__file__).parents[2]
_ALONE = 0.25  # chance that only the worker process is killed
_MOST_SKEW = 600.0  # seconds
_PATIENCE = 20.0  # seconds that a worker has to end after a signal, under load


def now() -> datetime:
    """The time of the machine, which the workers share."""
    return datetime.now(UTC)  # noqa: TID251


@dataclass(eq=False)
class Post:
    """One place of the fleet: a supervisor over `processes` worker processes."""

    number: int
    database: str
    version: str = "new"
    processes: int = 1
    running: subprocess.Popen | None = None
    is_paused: bool = False
    is_ending: bool = False

    @property
    def is_awake(self) -> bool:
        """Whether its processes run."""
        return (
            self.running is not None
            and self.running.poll() is None
            and not self.is_paused
        )


@dataclass
class Fleet:
    """Keeps its posts filled, and can hurt whoever stands there."""

    posts: list[Post]
    lease: float
    directory: Path
    ledger: Path
    kills: dict[int, datetime] = field(default_factory=dict)
    """Process id → when it was killed."""
    exit_codes: list[int] = field(default_factory=list)
    """Of workers that were asked to end."""
    registered: set[int] = field(default_factory=set)
    """Ids of the processes that have begun to serve; only those are worth a fault."""
    starts: int = 0

    def tend(self) -> None:
        """Fill the posts that are empty."""
        for post in self.posts:
            is_empty = post.running is None or post.running.poll() is not None
            if is_empty and not post.is_ending:
                self._start(post)

    def serving(self, post: Post) -> list[int]:
        """Ids of the processes of *post* that serve now."""
        if not post.is_awake:
            return []
        return [pid for pid in children_of(post.running.pid) if pid in self.registered]

    def all_serving(self) -> list[int]:
        """Ids of the processes of all posts that serve now."""
        return [pid for post in self.posts for pid in self.serving(post)]

    def kill(self, rng: Random) -> bool:
        """SIGKILL a worker process, most times with its supervisor; False when there is none."""
        chosen = [post for post in self.posts if self.serving(post)]
        if not chosen:
            return False
        post = rng.choice(chosen)
        struck = children_of(post.running.pid)
        if rng.random() < _ALONE:  # the supervisor replaces it, more slowly each time
            struck = [rng.choice(self.serving(post))]
            _send(struck[0], signal.SIGKILL)
        else:
            _send_to_all(post.running.pid, signal.SIGKILL)
            post.running.wait()
        self.kills |= dict.fromkeys(struck, now())
        return True

    def pause(self, rng: Random) -> Post | None:
        """SIGSTOP a post, if another one serves."""
        chosen = [post for post in self.posts if self.serving(post)]
        if len(chosen) < 2:
            return None
        post = rng.choice(chosen)
        post.is_paused = True
        _send_to_all(post.running.pid, signal.SIGSTOP)
        return post

    def freeze(self, pid: int) -> Post | None:
        """SIGSTOP the post of the process *pid*, if it serves and another one does, too."""
        serving = [post for post in self.posts if self.serving(post)]
        post = next((post for post in serving if pid in self.serving(post)), None)
        if post is None or len(serving) < 2:
            return None
        post.is_paused = True
        _send_to_all(post.running.pid, signal.SIGSTOP)
        return post

    def resume(self, post: Post) -> None:
        """SIGCONT it."""
        _send_to_all(post.running.pid, signal.SIGCONT)
        post.is_paused = False

    def skew(self, rng: Random) -> bool:
        """Set the system clock of a post that serves, up to ten minutes wrong."""
        chosen = [post for post in self.posts if self.serving(post)]
        if not chosen:
            return False
        file = self._skew_of(rng.choice(chosen))
        written = file.with_suffix(".new")
        written.write_text(str(rng.uniform(-_MOST_SKEW, _MOST_SKEW)))
        written.rename(file)
        return True

    def storm(self, rng: Random) -> bool:
        """SIGTERM every post that serves, some twice, and wait for the ends; False without any."""
        struck = [post for post in self.posts if self.serving(post)]
        for post in struck:
            post.is_ending = True
            post.running.terminate()
            if rng.random() < 0.3:
                post.running.terminate()
        for post in struck:
            self._see_off(post)
        return bool(struck)

    def end(self) -> None:
        """End everybody."""
        alive = [
            p for p in self.posts if p.running is not None and p.running.poll() is None
        ]
        for post in alive:
            _send_to_all(post.running.pid, signal.SIGCONT)
            post.running.terminate()
        for post in alive:
            self._see_off(post)

    def logs(self) -> str:
        """What all workers have said."""
        return "".join(
            file.read_text(errors="replace") for file in self.directory.glob("*.log")
        )

    def _skew_of(self, post: Post) -> Path:
        return self.directory / f"post-{post.number}.skew"

    def _start(self, post: Post) -> None:
        maker = "make_app" if post.version == "new" else "make_old_app"
        command = [
            *(sys.executable, "-m", "statejobs", "worker", "--log-level", "warning"),
            *("--processes", str(post.processes)),
        ]
        with (self.directory / f"post-{post.number}.log").open("ab") as log:
            post.running = subprocess.Popen(
                command,
                cwd=ROOT,
                env={
                    **os.environ,
                    "STATEJOBS_APP": f"tests.chaos.app:{maker}",
                    "STATEJOBS_DATABASE": post.database,
                    app.LEASE: str(self.lease),
                    app.LEDGER: str(self.ledger),
                    app.VERSION: post.version,
                    app.SKEW: str(self._skew_of(post)),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        post.is_paused = False
        self.starts += 1

    def _see_off(self, post: Post) -> None:
        try:
            self.exit_codes.append(post.running.wait(_PATIENCE))
        except subprocess.TimeoutExpired:
            self.exit_codes.append(-signal.SIGKILL)
            _send_to_all(post.running.pid, signal.SIGKILL)
            post.running.wait()
        post.is_ending = False


def children_of(pid: int) -> list[int]:
    """Ids of the child processes of *pid*."""
    with contextlib.suppress(OSError):
        return [
            int(i) for i in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    return []


def wait_until(holds, *, within: float, tend=lambda: None) -> bool:
    """Poll until *holds* returns something true; False when it does not in time."""
    give_up_at = time.monotonic() + within
    while time.monotonic() < give_up_at:
        tend()
        if holds():
            return True
        time.sleep(0.1)  # noqa: TID251
    return False


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _send_to_all(leader: int, number: int) -> None:
    """Signal a session that the fleet started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, number)
