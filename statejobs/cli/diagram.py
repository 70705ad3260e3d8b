"""`diagram`: machines as Mermaid text."""

from __future__ import annotations

import click

from statejobs.cli.completion import complete, resource_names
from statejobs.cli.problems import not_found
from statejobs.cli.settings import Settings, common_options
from statejobs.errors import NotFoundError
from statejobs.people.machines import machine_of
from statejobs.values.graph import MachineSpec
from statejobs.values.lifecycle import JOB_MACHINE

JOB = "job"


@click.command()
@click.argument("resource", required=False, shell_complete=complete(resource_names))
@common_options
@click.pass_obj
def diagram(settings: Settings, resource: str | None) -> None:
    """Draw the machine of RESOURCE, or every machine, as Mermaid text.

    `statejobs diagram job` draws the life of a job, and needs no app.

    \b
    Example:
      statejobs diagram Order > order.mmd
    """  # noqa: D301
    machines = [machine_of(spec) for spec in _specs(settings, resource)]
    if settings.as_json:
        settings.output.json({"machines": machines})
        return
    for machine in machines:
        if len(machines) > 1:
            settings.output.text(f"%% {machine.name}")
        settings.output.text(machine.mermaid.rstrip())


def _specs(settings: Settings, resource: str | None) -> list[MachineSpec]:
    if resource == JOB:
        return [JOB_MACHINE]
    registry = settings.load().registry
    if resource is None:
        return [model.spec for model in registry.resources.values()]
    try:
        return [registry.resource(resource).spec]
    except NotFoundError:
        known = [*registry.resources, JOB]
        raise not_found("resource", resource, known, look="statejobs status") from None
