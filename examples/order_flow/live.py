"""The live display of a terminal; the only module that imports rich."""

from __future__ import annotations

from typing import Self

from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from order_flow.models import S
from order_flow.progress import Progress
from order_flow.screen import QuietScreen, Scene

COLOURS = {
    S.DRAFT: "bright_black",
    S.QUEUED: "yellow",
    S.PROCESSING: "blue",
    S.COMPLETED: "green",
    S.FAILED: "red",
    S.CANCELLED: "bright_black",
}


_FIXED_LINES = 16
"""Lines of the picture beside the moves: heading, states, figures, worker, and what parts them."""


class LiveScreen(QuietScreen):
    """Redraws one picture, no higher than the terminal; what is to be copied goes above it."""

    def __init__(self, title: str, restart: str) -> None:
        super().__init__(restart)
        self._title = title
        self._live = Live(auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def show(self, scene: Scene) -> None:
        """Draw."""
        super().show(scene)
        room = max(self._live.console.height - _FIXED_LINES, 0)
        moves: list[RenderableType] = (
            [Text(), _moves(scene.progress, room)] if room else []
        )
        self._live.update(
            Group(
                self._heading(scene),
                Text(),
                _states(scene.progress, scene.planned),
                Text(),
                _figures(scene),
                Text(),
                self._worker(scene),
                *moves,
            ),
            refresh=True,
        )

    def _heading(self, scene: Scene) -> Table:
        row = Table.grid(expand=True)
        row.add_column()
        row.add_column(justify="right")
        gateway = (
            Text("gateway up", "green")
            if scene.gateway_is_up
            else _alarm("gateway down")
        )
        row.add_row(Text(self._title, "bold"), gateway)
        return row

    def _worker(self, scene: Scene) -> Text:
        pid = scene.progress.worker
        if scene.worker_ending is None:
            if pid is None:
                return Text(
                    "No worker runs now: orders wait in the database.", "yellow"
                )
            if not scene.progress.running:
                return Text(f"Process {pid} waits for orders.")
            return Text.assemble(
                f"Process {pid} holds {scene.progress.running} jobs. Try elsewhere: ",
                (f"kill -9 {pid}", "bold"),
            )
        now = (
            f" Process {pid} runs the jobs."
            if pid
            else " Start another, as said above."
        )
        return Text.assemble(_alarm("The worker ended."), now)

    def _tell_ending(self, scene: Scene) -> None:
        # Not part of the picture, which folds or cuts what is longer than a line.
        console = self._live.console
        console.print(
            self._ending_text(scene), soft_wrap=True, markup=False, highlight=False
        )


def _states(progress: Progress, planned: int) -> Table:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column()
    table.add_column(justify="right", min_width=len(str(planned)))
    table.add_column(ratio=1)
    for state, count in progress.states.items():
        colour = COLOURS[state]
        table.add_row(
            Text(state, colour), str(count), Bar(planned, 0, count, color=colour)
        )
    return table


def _figures(scene: Scene) -> Text:
    progress = scene.progress
    return Text(
        f"{progress.seconds:.0f} s   placed {progress.placed}/{scene.planned}   "
        f"failed attempts {progress.failures}   crashes {progress.crashes}   "
        f"retried orders {progress.retries}"
    )


def _moves(progress: Progress, most: int) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right")
    table.add_column()
    table.add_column(min_width=23)  # the longest, so that nothing jumps
    table.add_column(no_wrap=True)
    for move in progress.moves[:most]:
        colour = COLOURS.get(S(move.target), "")
        table.add_row(
            f"{move.seconds:.1f} s",
            f"order {move.order}",
            Text(move.path, colour),
            move.cause,
        )
    return table


def _alarm(text: str) -> Text:
    return Text(text, "bold red")
