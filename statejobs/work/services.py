"""The services of an app: what its workers do time and again, beside those of every worker."""

from __future__ import annotations

from statejobs.config import Retention
from statejobs.declare.registry import Registry
from statejobs.runner.services import Service
from statejobs.store.store import Store
from statejobs.telemetry import Telemetry
from statejobs.values.clock import Sources
from statejobs.work.prune import Pruner


def services_of(
    registry: Registry,
    store: Store,
    retention: Retention,
    *,
    sources: Sources,
    telemetry: Telemetry,
) -> list[Service]:
    """Return what each worker of the app does beside jobs; a new service is one more entry."""
    services: list[Service] = []
    if retention.every is not None:
        pruner = Pruner(
            registry, store, retention, sources=sources, telemetry=telemetry
        )
        services.append(Service("prune", pruner.run_once, retention.every))
    return services
