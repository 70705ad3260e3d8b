"""Shows a run: live in a terminal, a line each second elsewhere, or not at all."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from textwrap import indent
from types import TracebackType
from typing import Protocol, Self

from order_flow.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One moment of a run."""

    progress: Progress
    planned: int
    """How many orders will be placed."""
    gateway_is_up: bool
    worker_ending: str | None
    """How the worker that the demo started ended; None while it runs."""


class Screen(Protocol):
    """Shows scenes while a `with` block runs."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def show(self, scene: Scene) -> None:
        """Show what is now."""
        ...


def open_screen(*, title: str, restart: str, plain: bool, as_json: bool) -> Screen:
    """Return the screen that suits.

    Args:
        title: What runs.
        restart: What to type to start another worker: a command, perhaps a hint above it.
        plain: A line each second, also in a terminal; so it is without the extra `demo`.
        as_json: Nothing on stdout.
    """
    if as_json:
        return QuietScreen(restart)
    if plain or not sys.stdout.isatty() or find_spec("rich") is None:
        return PlainScreen(title, restart)
    from order_flow.live import LiveScreen  # noqa: PLC0415 - it needs the extra `demo`

    return LiveScreen(title, restart)


class QuietScreen:
    """Tells only that the worker ended, on stderr."""

    def __init__(self, restart: str) -> None:
        self._restart = indent(restart, "  ")
        self._ending: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def show(self, scene: Scene) -> None:
        """Tell of an end of the worker, once."""
        if scene.worker_ending != self._ending:
            self._ending = scene.worker_ending
            self._tell_ending(scene)

    def _tell_ending(self, scene: Scene) -> None:
        print(self._ending_text(scene), file=sys.stderr, flush=True)

    def _ending_text(self, scene: Scene) -> str:
        return (
            f"The worker ended ({scene.worker_ending}). Start another:\n{self._restart}"
        )


class PlainScreen(QuietScreen):
    """Prints a line each second."""

    def __init__(self, title: str, restart: str) -> None:
        super().__init__(restart)
        self._title = title
        self._next_line_at = 0.0
        self._worker: int | None = None

    def __enter__(self) -> Self:
        print(self._title, flush=True)
        return self

    def show(self, scene: Scene) -> None:
        """Print what is due."""
        super().show(scene)
        progress = scene.progress
        if progress.running and progress.worker not in {None, self._worker}:
            self._worker = progress.worker
            print(
                f"Process {self._worker} holds {progress.running} jobs now. "
                f"To see them recovered: kill -9 {self._worker}\n"
                f"Should no worker be left, start one:\n{self._restart}",
                flush=True,
            )
        if progress.seconds >= self._next_line_at or progress.ended == scene.planned:
            self._next_line_at = progress.seconds + 1
            print(_line(scene), flush=True)

    def _tell_ending(self, scene: Scene) -> None:
        print(self._ending_text(scene), flush=True)


def _line(scene: Scene) -> str:
    progress = scene.progress
    states = ", ".join(
        f"{count} {state}" for state, count in progress.states.items() if count
    )
    return (
        f"{progress.seconds:5.1f} s  {states or 'no orders yet'}"
        f"  [failures {progress.failures}, crashes {progress.crashes}, retried {progress.retries}]"
        f"{'' if scene.gateway_is_up else '  gateway down'}"
    )
