"""The demo as people start it: `python -m statejobs demo`, as a process."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

from tests.support.processes import DEADLINE

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


class Demo:
    """A running demo; `search` waits for what it prints."""

    def __init__(self, directory, *options):
        self.directory = directory
        self._lines, self._more = [], threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "statejobs", "demo", *options],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(directory), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self):
        return "".join(self._lines)

    def search(self, pattern, seconds=DEADLINE):
        """The first match in what was printed, once it is there."""
        with self._more:
            assert self._more.wait_for(lambda: self._find(pattern), seconds), (
                self.output
            )
            return self._find(pattern)

    def worker_pid(self):
        """The process that runs jobs."""
        return int(self.search(r"kill -9 (\d+)")[1])

    def wait(self, seconds=DEADLINE):
        """The exit code."""
        code = self.process.wait(seconds)
        self._reader.join(5)
        self.process.stdout.close()
        return code

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.wait(DEADLINE)

    def _find(self, pattern):
        return re.search(pattern, self.output, re.MULTILINE)

    def _read(self):
        for line in self.process.stdout:
            with self._more:
                self._lines.append(line)
                self._more.notify_all()
        with self._more:
            self._more.notify_all()


class DemoInTerminal:
    """A running demo whose stdout is a terminal of *size*: lines and columns."""

    def __init__(self, directory, size):
        self._raw = ""
        self._terminal, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        inherited = {
            k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES"}
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "statejobs", "demo"],
            cwd=ROOT,
            env={
                **inherited,
                "TMPDIR": str(directory),
                "PYTHONPATH": str(ROOT),
                "TERM": "xterm-256color",
            },
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.send_signal(signal.SIGTERM)
        try:
            self._read_until(lambda: False)
        finally:
            self.process.wait(DEADLINE)
            os.close(self._terminal)

    @property
    def written(self):
        """What it wrote, colours and moves of the cursor left out."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._raw).replace("\r", "")

    def search(self, pattern):
        """The first match in what was written, once it is there."""
        self._read_until(lambda: re.search(pattern, self.written))
        found = re.search(pattern, self.written)
        assert found, self.written[-3000:]
        return found

    def _read_until(self, is_enough):
        """Read until *is_enough* or the end; the time-out of the test catches a hang."""
        while not is_enough():
            try:
                read = os.read(self._terminal, 65536).decode(errors="replace")
            except OSError:  # Linux says so when the other end closes
                return
            self._raw += read
