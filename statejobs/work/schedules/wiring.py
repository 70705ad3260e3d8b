"""What an app does by the clock, of all that its registry has."""

from __future__ import annotations

from statejobs.declare.registry import Registry
from statejobs.store.store import Store
from statejobs.telemetry import Telemetry
from statejobs.values.clock import Sources
from statejobs.work.schedules.due import Due
from statejobs.work.schedules.pager import Pager
from statejobs.work.schedules.ticker import Ticker
from statejobs.work.schedules.ticks import Ticks


def ticker_of(
    registry: Registry, store: Store, sources: Sources, telemetry: Telemetry
) -> Ticker | None:
    """Return what takes all that is due; None when nothing ever is.

    What else has a row among the schedules is one more `Due`.
    """
    dues: list[Due] = [
        Ticks(schedule, store, sources=sources, telemetry=telemetry)
        for schedule in registry.schedules.values()
    ]
    if not dues:
        return None
    pager = Pager(registry, store, sources=sources, telemetry=telemetry)
    return Ticker(dues, store, sources, pages=pager, paged=pager.keys)
