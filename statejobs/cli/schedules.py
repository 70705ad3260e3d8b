"""`schedule`: what runs by the clock."""

from __future__ import annotations

import click

from statejobs.cli.group import Group
from statejobs.cli.schedule_next import next_runs
from statejobs.cli.settings import common_options


@click.group("schedule", cls=Group)
@common_options
def schedule_group() -> None:
    """Look at what runs by the clock."""


schedule_group.add_command(next_runs)
