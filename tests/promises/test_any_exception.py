"""P6: whatever an action raises is recorded; nothing is stuck, and the neighbours complete.

`test_errors.py` and `test_failure.py` name the odd ones; here chance makes them.
"""

import asyncio
import builtins
import random

import pytest

from statejobs import JobState
from tests.support.parcels import (
    Message,
    Parcel,
    enqueue,
    post_office,
    reset_script,
    script,
)
from tests.support.processes import DEADLINE, eventually
from tests.support.size import size

ERRORS = size(150, 10_000)
"""Exceptions on each database."""
pytestmark = pytest.mark.timeout(size(600, 3600))

NAMES = sorted(
    name
    for name, kind in vars(builtins).items()
    if isinstance(kind, type)
    and issubclass(kind, BaseException)
    and not name.endswith("Group")
)


class Generator:
    """Makes exceptions, each of them odd in some ways."""

    def __init__(self, seed):
        self.rng = random.Random(seed)

    def text(self):
        alphabet = "ab \n\0\x1b\ud800\udcffé\U0001f600'%{}\\"
        length = self.rng.choice([0, 1, 20, 3000])
        return "".join(self.rng.choice(alphabet) for _ in range(length))

    def argument(self):
        return self.rng.choice(
            [
                self.text,
                lambda: b"\xff\0",
                lambda: 2**200,
                object,
                lambda: float("nan"),
                list,
            ]
        )()

    def plain(self):
        kind = getattr(builtins, self.rng.choice(NAMES))
        try:
            return kind(*(self.argument() for _ in range(self.rng.randrange(3))))
        except Exception:  # noqa: BLE001 - Unicode errors want five arguments
            return kind.__new__(kind)

    def hostile(self):
        """Make one whose methods raise, or answer nonsense."""
        rng = self.rng

        def answer(_self):
            if rng.random() < 0.7:
                raise rng.choice(
                    [ValueError, SystemExit, MemoryError, asyncio.CancelledError]
                )
            return rng.choice([7, None, b"x", "\udcff"])

        names = rng.sample(
            ["__str__", "__repr__", "__hash__", "__bool__", "__len__"], 2
        )
        base = rng.choice([Exception, BaseException, OSError, KeyError])
        return type(
            self.text()[:30].replace("\0", "") or "E",
            (base,),
            dict.fromkeys(names, answer),
        )

    def error(self, depth=0):
        """Make an exception, perhaps with notes, a cause, a context, or others inside."""
        rng = self.rng
        try:
            made = self.hostile()("x") if rng.random() < 0.3 else self.plain()
        except UnicodeEncodeError:  # a class cannot be named so
            made = self.plain()
        if depth < 3 and rng.random() < 0.2:
            members = [self.error(depth + 1) for _ in range(rng.randrange(1, 4))]
            made = BaseExceptionGroup(self.text(), members)
        if rng.random() < 0.2:
            made.__notes__ = rng.choice([["n", None], 5, [self.text()]])
        if depth < 3 and rng.random() < 0.3:
            made.__cause__ = self.error(depth + 1)
        if rng.random() < 0.1:
            made.__context__ = made
        return made


@pytest.fixture
def app(database_url):
    with post_office(database_url) as opened:
        yield opened
        reset_script()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_generated_exceptions_are_recorded_and_block_nobody(app, seed):
    generator = Generator(seed)
    number = ERRORS // 2
    good = set()

    def act(record, _ctx):
        if record.id not in good:
            raise generator.error()

    async def act_async(record, ctx):
        await asyncio.sleep(0)
        act(record, ctx)

    script.send, script.fetch = act, act_async
    good.update(range(10, number + 11, 10))
    for kind, action in ((Parcel, "send_off"), (Message, "get")):
        enqueue(app, kind, action, number + 10)

    def at_rest():
        with app.engine.connect():
            counts = app.queries.counts()["default"]
        return counts.get("queued", 0) + counts.get("processing", 0) == 0

    with app.running():
        eventually(at_rest, seconds=size(DEADLINE, 3000))

    for job in app.queries.jobs(limit=4 * ERRORS):
        tried = [
            (row["attempt"], row["outcome"]) for row in app.queries.attempts(job.id)
        ]
        if int(job.record_id) in good:
            assert (job.state, tried) == (JobState.COMPLETED, [])
        else:
            assert (job.state, tried) == (JobState.FAILED, [(1, "failed")]), job
