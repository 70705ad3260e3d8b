"""What jobs of `rounds.py` do, by name: they work, fail, hang, or take their process along."""

import ctypes
import os
import signal
import time
from datetime import timedelta

from statejobs import Cancel, Snooze
from tests.support.processes import DEADLINE

LEASE = 3.0
"""Seconds that a lease lasts where jobs outlive it."""
BACKOFF = timedelta(seconds=0.05)


def _nothing(_record, _ctx):
    pass


def _work(_record, _ctx):
    time.sleep(0.02)  # noqa: TID251


def _write(_record, ctx):
    ctx.session.flush()


def _fail_once(_record, ctx):
    if ctx.attempt == 1:
        raise ValueError("the first time it fails")


def _snooze_once(_record, ctx):
    if "snoozed" not in ctx.checkpoint:
        ctx.checkpoint["snoozed"] = True
        raise Snooze(BACKOFF)


def _cancel_until_mended(record, _ctx):
    if not record.is_mended:
        raise Cancel("not yet")


def wait_for_the_cancel(_record, ctx):
    """Run until the job is to stop."""
    until = time.monotonic() + DEADLINE
    while not ctx.cancel_requested:
        if time.monotonic() > until:
            return
        time.sleep(0.02)  # noqa: TID251
    raise RuntimeError("stopped when asked")


def _hang(_record, ctx):
    if ctx.attempt == 1:
        time.sleep(120)  # noqa: TID251 - its worker is killed


def _block(_record, _ctx):
    time.sleep(120)  # noqa: TID251 - in `async def`: nothing else runs on its loop


def _segfault(_record, _ctx):
    ctypes.string_at(0)


def _exit(_record, _ctx):
    os._exit(3)


def _killed(_record, _ctx):
    """End as the kernel ends what takes too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def _fork(_record, _ctx):
    """Leave a copy of the worker behind, which lives on for a while with all its sockets."""
    if os.fork() == 0:
        time.sleep(0.5)  # noqa: TID251
        os._exit(0)


def _fork_home(_record, _ctx):
    """Let the copy go on as if it were the worker."""
    os.fork()


def _sleep_past_the_lease(_record, _ctx):
    time.sleep(1.4 * LEASE)  # noqa: TID251


def _spin_past_the_lease(_record, _ctx):
    until = time.monotonic() + 1.4 * LEASE
    while time.monotonic() < until:
        sum(range(1000))


def _hold_the_interpreter(_record, _ctx):
    """One call of C that lets no other thread run, for a third of a lease: as long as from one
    heartbeat to the next, so that two thirds can be gone when it ends."""
    ctypes.PyDLL(None).usleep(int(LEASE / 3 * 1_000_000))


DEEDS = {
    "nothing": _nothing,
    "own": _nothing,
    "work": _work,
    "write": _write,
    "fail": _fail_once,
    "snooze": _snooze_once,
    "cancel": _cancel_until_mended,
    "be cancelled": wait_for_the_cancel,
    "hang": _hang,
    "block": _block,
    "segfault": _segfault,
    "exit": _exit,
    "killed": _killed,
    "fork": _fork,
    "fork and return": _fork_home,
    "sleep": _sleep_past_the_lease,
    "spin": _spin_past_the_lease,
    "hold": _hold_the_interpreter,
}
