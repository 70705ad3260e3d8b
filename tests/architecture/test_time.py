"""The engine measures and waits by the clock that it was given; each exception has a reason.

Whoever steps time, as a simulator does, steps all of it but what is listed here.
"""

import ast
from pathlib import Path

import pytest

import statejobs

PACKAGE = Path(statejobs.__file__).parent
CLOCK = "values/clock.py"
"""The one module that may ask this machine, and wait in its time."""

AT_A_STOP = "a thread is joined at a stop; how long it takes is up to what it is in"
OF_THE_DRIVER = "the driver, or a socket, waits in the time of the machine"

EXCEPTIONS = {
    ("cli/worker_child.py", "orders.wait"): "orders come in the time of the machine",
    ("cli/worker_child.py", "stopping.join"): AT_A_STOP,
    ("cli/worker.py", "inbox.get"): "signals come in the time of the machine",
    ("runner/committer.py", "self._thread.join"): AT_A_STOP,
    ("runner/deadline.py", "asyncio.wait"): "an event loop has a clock of its own",
    ("runner/executors.py", "asyncio.run_coroutine_threadsafe(last(), loop).result"): (
        AT_A_STOP
    ),
    ("runner/executors.py", "asyncio.sleep"): "by 0: the loop takes its last step",
    ("runner/executors.py", "thread.join"): AT_A_STOP,
    ("runner/lifespan.py", "self._is_over.wait"): "until the last job has ended",
    ("runner/lifespan.py", "self._held.result"): AT_A_STOP,
    ("runner/services.py", "self._thread.join"): AT_A_STOP,
    ("runner/services.py", "self.join"): AT_A_STOP,
    ("runner/worker.py", "self._claiming.join"): AT_A_STOP,
    ("sparing.py", "threading.Timer"): "lines of a log bear the time of the machine",
    ("store/engines/postgres.py", "selector.select"): OF_THE_DRIVER,
    ("store/engines/postgres.py", "self._thread.join"): AT_A_STOP,
    ("store/engines/turns.py", "mine.wait"): "SQLite's own busy timeout follows it",
    ("store/engines/unanswered.py", "threading.Timer"): OF_THE_DRIVER,
    ("store/engines/wake.py", "self._thread.join"): AT_A_STOP,
    ("store/engines/wake.py", "time.time"): "files bear the time of the file system",
    ("store/engines/witness.py", "poll.poll"): OF_THE_DRIVER,
}
"""File and call → why it is in the time of the machine."""

CAUGHT = [
    "import time\ntime.perf_counter()",
    "import time\nwait = time.sleep",
    "from time import monotonic",
    "import datetime\ndatetime.datetime.now()",
    "import threading\nthreading.Timer(1, act).start()",
    "import asyncio\nasyncio.sleep(1)",
    "self._stopped.wait(1)",
    "event.wait()",
    "self.emptied.wait_for(holds, 1)",
    "self._thread.join()",
    "thread.join(5)",
    "thread.join(timeout=5)",
    "inbox.get(timeout=1)",
    "future.result(timeout=1)",
    "lock.acquire(timeout=1)",
    "loop.call_later(1, act)",
    "selector.select(1)",
]
FREE = [
    "self._sources.wait(event, 1)",
    "sources.sleep(1)",
    "self._clock.monotonic()",
    "', '.join(words)",
    "query.join(table, condition)",
    "words.get('timeout')",
    "future.result()",
    "process.poll()",
]


def calls_in(tree):
    """What in *tree* measures or waits in the time of the machine, as it is written."""
    found, has_time = set(), imports_time(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            found |= {f"time.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute) and asks_the_machine(node, has_time):
            found.add(ast.unparse(node))
        elif isinstance(node, ast.Call) and waits(node):
            found.add(ast.unparse(node.func))
    return found


def imports_time(tree):
    """Whether `time` is the module; `datetime` has a class of that name."""
    return any(
        alias.name == "time"
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    )


def asks_the_machine(node, has_time):
    if ast.unparse(node.value) == "time":
        return has_time
    return ast.unparse(node) in {
        "threading.Timer",
        "datetime.now",
        "datetime.datetime.now",
    }


def waits(call):
    function, words = call.func, {word.arg for word in call.keywords}
    if not isinstance(function, ast.Attribute):
        return False
    owner = ast.unparse(function.value)
    match function.attr:
        case "wait" | "wait_for" | "sleep" | "call_later":
            return not owner.endswith("sources")
        case "join":
            is_text = isinstance(
                function.value, ast.Constant | ast.JoinedStr | ast.Call
            )
            return "timeout" in words or (len(call.args) < 2 and not is_text)
        case "get" | "result" | "acquire":
            return "timeout" in words
        case "select" | "poll":
            return len(call.args) == 1
        case _:
            return False


def test_time_comes_from_the_clock_but_for_what_is_listed():
    found = {
        (path.relative_to(PACKAGE).as_posix(), call)
        for path in PACKAGE.rglob("*.py")
        for call in calls_in(ast.parse(path.read_text()))
    }

    beside = {(file, call) for file, call in found if file != CLOCK}

    assert beside == set(EXCEPTIONS)


@pytest.mark.parametrize("source", CAUGHT)
def test_what_asks_the_machine_is_caught(source):
    assert calls_in(ast.parse(source))


@pytest.mark.parametrize("source", FREE)
def test_what_asks_the_clock_is_free(source):
    assert not calls_in(ast.parse(source))
