"""The demo as people start it: `python -m statejobs demo`, as a process."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


class Demo:
    """A running demo; `line_with` waits for what it prints."""

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

    def search(self, pattern, seconds=30):
        """The first match in what was printed, once it is there."""
        with self._more:
            assert self._more.wait_for(lambda: self._find(pattern), seconds), self.output
            return self._find(pattern)

    def worker_pid(self):
        """The process that runs jobs."""
        return int(self.search(r"kill -9 (\d+)")[1])

    def wait(self, seconds=50):
        """The exit code."""
        code = self.process.wait(seconds)
        self._reader.join(5)
        self.process.stdout.close()
        return code

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.wait(20)

    def _find(self, pattern):
        return re.search(pattern, self.output, re.MULTILINE)

    def _read(self):
        for line in self.process.stdout:
            with self._more:
                self._lines.append(line)
                self._more.notify_all()
        with self._more:
            self._more.notify_all()
