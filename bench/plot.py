"""Draws the ratios as bars, one panel for each workload and database."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.rows import Row

_OURS, _THEIRS = "#2b6cb0", "#b8c2cc"


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write an SVG at *path*; rows without a ratio are left out."""
    panels: dict[str, list[Row]] = {}
    for row in rows:
        if row.ratio_to_floor is not None:
            panels.setdefault(f"{row.workload} · {row.database}", []).append(row)
    if not panels:
        return
    heights = [len(panel) + 1 for panel in panels.values()]
    mpl.rcParams["svg.hashsalt"] = "statejobs"  # the same figures give the same file
    figure = Figure(figsize=(9, 0.3 * sum(heights) + 1), layout="constrained")
    axes = figure.subplots(len(panels), squeeze=False, height_ratios=heights)
    for (title, panel), (axis,) in zip(panels.items(), axes, strict=True):
        _draw_panel(axis, title, panel)
    figure.supxlabel("ratio to the floor, above 1 is better (logarithmic)")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def _draw_panel(axis: mpl.axes.Axes, title: str, rows: Sequence[Row]) -> None:
    names = [f"{row.system}, {row.workers}" for row in rows]
    ratios = [row.ratio_to_floor or 0 for row in rows]
    colors = [_OURS if row.system.startswith("statejobs") else _THEIRS for row in rows]
    bars = axis.barh(range(len(rows)), ratios, color=colors)
    axis.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axis.set_yticks(range(len(rows)), names, fontsize=8)
    axis.invert_yaxis()
    axis.set_xscale("log")
    axis.axvline(1, color="black", linewidth=0.8)
    axis.margins(x=0.15)
    axis.set_title(title, loc="left", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
