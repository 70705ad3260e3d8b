"""Where bodies run: daemon threads for `def`, one event loop for `async def`."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from statejobs.acting import act_as_system

log = logging.getLogger("statejobs.worker")

_ENDS_WITHIN = 5.0  # seconds, unless a body blocks it

T = TypeVar("T")
Task = Callable[[], None]
OnLoopBlocked = Callable[[asyncio.AbstractEventLoop], None]
"""Called with a loop that a body blocks for good, to let go of what others on it hold."""
LastOnLoop = Callable[[], Coroutine[Any, Any, None]]
"""What is awaited on a loop before it ends."""


class Threads(Protocol):
    """Runs tasks beside the caller."""

    def submit(self, task: Task) -> None:
        """Run *task*, which raises nothing, in some thread."""
        ...

    def stop(self) -> None:
        """Take no more tasks; those that run go on."""
        ...


class DaemonThreads:
    """Threads that are made when none is free, and that end with the process.

    How many run at once is the caller's matter: a worker submits into free slots only. A thread
    that hangs in user code therefore takes no slot from others once it is abandoned.
    """

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._idle = 0
        self._count = 0
        self._lock = threading.Lock()

    def submit(self, task: Task) -> None:
        """Run *task* in an idle thread, or in a new one."""
        with self._lock:
            if self._idle > 0:
                self._idle -= 1
            else:
                self._count += 1
                name = f"statejobs-{self._count}"
                threading.Thread(target=self._serve, name=name, daemon=True).start()
        self._tasks.put(task)

    def stop(self) -> None:
        """End the idle threads."""
        with self._lock:
            for _ in range(self._count):
                self._tasks.put(None)

    def _serve(self) -> None:
        act_as_system()  # once for all jobs that run here
        while True:
            task = self._tasks.get()
            if task is None:
                return
            task()
            del task  # keeps nothing of the last job alive while idle
            with self._lock:
                self._idle += 1


def run_all(
    threads: Threads, tasks: Sequence[Callable[[], object]], *, most: int
) -> None:
    """Run *tasks* on *threads*, at most so many at once, and wait for them; errors are logged."""
    waiting = deque(tasks)
    ended = threading.Semaphore(0)

    def serve() -> None:
        with suppress(IndexError):
            while True:
                task = waiting.popleft()
                try:
                    task()
                except Exception:  # the others are to be run whatever this one met
                    log.exception("one of %d tasks failed", len(tasks))
        ended.release()

    servers = min(most, len(tasks))
    for _ in range(servers):
        threads.submit(serve)
    for _ in range(servers):
        ended.acquire()


class LoopThread:
    """An event loop in a thread of its own, started at first use."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop, once something was run on it."""
        return self._loop

    @property
    def running_task(self) -> str | None:
        """Name of the task that the loop is in; None between tasks."""
        loop = self._loop
        task = asyncio.current_task(loop) if loop is not None else None
        return task.get_name() if task is not None else None

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Schedule *coroutine* on the loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._started())

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run *coroutine* on the loop, and wait for it."""
        return self.submit(coroutine).result()

    def stop(self, last: LastOnLoop | None = None) -> None:
        """Await *last* on the loop, then end it; pending tasks are dropped.

        Without *last* nobody waits: the loop may be blocked for good.
        """
        with self._lock:
            loop = self._loop
            self._loop = None
            thread = self._thread
            self._thread = None
        if loop is None or thread is None:
            return
        if last is not None:
            try:
                asyncio.run_coroutine_threadsafe(last(), loop).result(
                    timeout=_ENDS_WITHIN
                )
            except Exception as error:  # noqa: BLE001 - the loop ends whatever that met
                log.debug("the end of the event loop: %r", error)
        loop.call_soon_threadsafe(loop.stop)
        if last is not None:
            thread.join(timeout=_ENDS_WITHIN)

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_serve_loop, args=(loop,), name="statejobs-loop", daemon=True
                )
                self._thread.start()
                self._loop = loop
            return self._loop


def _serve_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
