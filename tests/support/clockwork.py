"""An app with what runs by the clock: two scheduled actions, and a task without a schedule."""

from statejobs import Domain, JobContext, StateJobs, scheduled_action, task

RAN = []
"""The tick of each run of an import."""


@scheduled_action("prices.import", cron="0 */6 * * *", timezone="Europe/Prague")
def import_prices(ctx: JobContext) -> None:
    """Runs every six hours."""
    RAN.append(ctx.tick)


@scheduled_action("report.daily", cron="0 3 * * *")
def report() -> None:
    """Runs every night."""


@task("mail.send")
def send() -> None:
    """Runs when it is asked for."""


def make_app(database: str, *, tasks=(import_prices, report, send), **options):
    """Such an app, of some of them."""
    return StateJobs(database, domains=[Domain("clock", tasks=tasks)], **options)
