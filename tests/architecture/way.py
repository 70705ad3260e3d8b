"""Counts what an act walks through: files, calls of ours, steps from package to package."""

import sys
import threading
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import statejobs

_ROOT = f"{Path(statejobs.__file__).parent}/"


class Way:
    """What was walked through while it was recorded; what Python makes functions of is not."""

    def __init__(self):
        self.files, self.crossings = Counter(), Counter()

    @property
    def calls(self):
        """How many functions of ours were called."""
        return self.files.total()

    def __call__(self, frame, event, _arg):
        """Take in one event of `sys.setprofile`."""
        file = _file_of(frame)
        if event != "call" or file is None or frame.f_code.co_name.startswith("<"):
            return
        self.files[file] += 1
        caller = frame.f_back
        while caller is not None and _file_of(caller) is None:  # SQLAlchemy, between us
            caller = caller.f_back
        if caller is not None and _package_of(_file_of(caller)) != _package_of(file):
            self.crossings[_file_of(caller), file] += 1

    def per(self, acts):
        """Return files, calls and crossings of each of *acts*; calls for many are shared out."""
        crossings = sum(n for n in self.crossings.values() if n >= acts * 0.9)
        return len(self.each(acts)), round(self.calls / acts), round(crossings / acts)

    def each(self, acts):
        """Return the files that every one of *acts* walks through by itself."""
        return {file for file, calls in self.files.items() if calls >= acts * 0.9}


@contextmanager
def recorded():
    """Record the way of this thread, and of those that start meanwhile."""
    way = Way()
    threading.setprofile(way)
    sys.setprofile(way)
    try:
        yield way
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def _file_of(frame):
    name = frame.f_code.co_filename
    return name.removeprefix(_ROOT) if name.startswith(_ROOT) else None


def _package_of(file):
    return file.partition("/")[0]
