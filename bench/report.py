"""Prints rows as tables, ratios first, and writes them as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from bench.rows import Row

_COLUMNS: tuple[tuple[str, Callable[[Row], float | None], str], ...] = (
    ("ratio", lambda row: row.ratio_to_floor, ".2f"),
    ("CPU ratio", lambda row: row.cpu_ratio_to_floor, ".2f"),
    ("per second", lambda row: row.rate, ",.0f"),
    ("lowest", lambda row: row.lowest, ",.0f"),
    ("highest", lambda row: row.highest, ",.0f"),
    ("p50 ms", lambda row: row.p50_ms, ".2f"),
    ("p99 ms", lambda row: row.p99_ms, ".2f"),
    ("worker ms", lambda row: row.worker_ms, ".2f"),
    ("server ms", lambda row: row.server_ms, ".2f"),
    ("WAL bytes", lambda row: row.wal_bytes, ",.0f"),
    ("others", lambda row: row.other_cores, ".1f"),
)


def show(rows: Sequence[Row], environment: Mapping[str, Any], console: Console) -> None:
    """Print the environment, and a table for each workload, database and number of workers."""
    for name, value in environment.items():
        console.print(f"[bold]{name}[/] {value}", highlight=False)
    for (workload, database, workers), group in groupby(
        rows, lambda row: (row.workload, row.database, row.workers)
    ):
        title = f"{workload} · {database} · {workers} {'process' if workers == 1 else 'processes'}"
        known = [*group]
        measured = [row for row in known if row.skipped is None]
        console.print(_table(title, measured) if measured else f"[bold]{title}[/]")
        for row in known:
            if row.skipped is not None:
                console.print(
                    f"  skipped: {row.system}: {row.skipped}\n", highlight=False
                )


def write(rows: Sequence[Row], environment: Mapping[str, Any], path: Path) -> None:
    """Write what was measured; fields without a figure are left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "environment": environment,
        "rows": [
            {k: v for k, v in asdict(row).items() if v is not None} for row in rows
        ],
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _table(title: str, rows: Sequence[Row]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE)
    shown = [
        column for column in _COLUMNS if any(column[1](row) is not None for row in rows)
    ]
    extra = list(dict.fromkeys(name for row in rows for name in row.figures or ()))
    ratios = [name for name, *_ in shown if name.endswith("ratio")]
    for name in ratios:
        table.add_column(name, justify="right")
    table.add_column("system", no_wrap=True)
    for name in [name for name, *_ in shown[len(ratios) :]] + extra:
        table.add_column(name, justify="right")
    for row in rows:
        cells = [_cell(read(row), style) for _, read, style in shown]
        more = [_cell((row.figures or {}).get(name), ",.2f") for name in extra]
        table.add_row(*cells[: len(ratios)], row.system, *cells[len(ratios) :], *more)
    return table


def _cell(value: float | None, style: str) -> str:
    return "" if value is None else format(value, style)
