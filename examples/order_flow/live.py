"""The live display of a terminal; the only module that imports rich."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.bar import Bar
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from order_flow.models import S
from order_flow.progress import Progress
from order_flow.screen import Scene

COLOURS = {
    S.DRAFT: "bright_black",
    S.QUEUED: "yellow",
    S.PROCESSING: "blue",
    S.COMPLETED: "green",
    S.FAILED: "red",
    S.CANCELLED: "bright_black",
}


class LiveScreen:
    """Redraws one picture."""

    def __init__(self, title: str, restart_line: str) -> None:
        self._title, self._restart_line = title, restart_line
        self._live = Live(auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        self._live.stop()

    def show(self, scene: Scene) -> None:
        """Draw."""
        self._live.update(
            Group(
                self._heading(scene),
                Text(),
                _states(scene.progress, scene.planned),
                Text(),
                _figures(scene),
                Text(),
                _moves(scene.progress),
                Text(),
                self._worker(scene),
            ),
            refresh=True,
        )

    def _heading(self, scene: Scene) -> Table:
        row = Table.grid(expand=True)
        row.add_column()
        row.add_column(justify="right")
        gateway = Text("gateway up", "green") if scene.gateway_is_up else _alarm("gateway down")
        row.add_row(Text(self._title, "bold"), gateway)
        return row

    def _worker(self, scene: Scene) -> Text:
        pid = scene.progress.worker
        if scene.worker_ending is None:
            if pid is None:
                return Text("No worker runs now: orders wait in the database.", "yellow")
            return Text.assemble(
                f"Process {pid} runs the jobs. To see a recovery, type elsewhere: ",
                (f"kill -9 {pid}", "bold"),
            )
        helper = f" Process {pid} runs the jobs." if pid else ""
        return Text.assemble(
            _alarm(f"The worker ended ({scene.worker_ending})."), f"{helper} Start another:\n",
            (self._restart_line, "bold"),
        )  # fmt: skip


def _states(progress: Progress, planned: int) -> Table:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column()
    table.add_column(justify="right", min_width=len(str(planned)))
    table.add_column(ratio=1)
    for state, count in progress.states.items():
        colour = COLOURS[state]
        table.add_row(Text(state, colour), str(count), Bar(planned, 0, count, color=colour))
    return table


def _figures(scene: Scene) -> Text:
    progress = scene.progress
    return Text(
        f"{progress.seconds:.0f} s   placed {progress.placed}/{scene.planned}   "
        f"failed attempts {progress.failures}   crashes {progress.crashes}   "
        f"retried orders {progress.retries}"
    )


def _moves(progress: Progress) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right")
    table.add_column()
    table.add_column(min_width=23)  # the longest, so that nothing jumps
    table.add_column(no_wrap=True)
    for move in progress.moves:
        colour = COLOURS.get(S(move.target), "")
        table.add_row(
            f"{move.seconds:.1f} s", f"order {move.order}", Text(move.path, colour), move.cause
        )
    return table


def _alarm(text: str) -> Text:
    return Text(text, "bold red")
