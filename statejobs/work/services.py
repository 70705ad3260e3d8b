"""The services of an app: what its workers do time and again, beside those of every worker."""

from __future__ import annotations

from statejobs.config import Retention
from statejobs.runner.services import Service
from statejobs.work.prune import Pruner


def services_of(*, pruner: Pruner, retention: Retention) -> list[Service]:
    """Return what each worker of the app does beside jobs; a new service is one more entry."""
    services: list[Service] = []
    if retention.every is not None:
        services.append(Service("prune", pruner.run_once, retention.every))
    return services
