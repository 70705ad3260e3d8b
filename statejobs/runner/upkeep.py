"""What a worker does to live among others: the services that each of them has, whatever its app."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from statejobs.runner.blockers import is_table_locked
from statejobs.runner.crew import Crew
from statejobs.runner.keeper import HeldClaims, Keeper
from statejobs.runner.news import News
from statejobs.runner.node import SILENT_NODE, Node
from statejobs.runner.rescue import RESCUED_AT_ONCE
from statejobs.runner.runner import Runner
from statejobs.runner.services import Service
from statejobs.store.engines.unanswered import SilenceWatch

_LOOK_FOR_SILENCE = timedelta(seconds=1)
_LOOK_FOR_OVERDUE = timedelta(seconds=0.5)


def upkeep(
    runner: Runner,
    crew: Crew,
    held: HeldClaims,
    *,
    keeper: Keeper,
    node: Node,
    news: News,
    watch: SilenceWatch | None,
) -> list[Service]:
    """Return the services by which a worker keeps what is its own, and takes what was others'."""
    settings = runner.settings
    strays = partial(_give_back_strays, runner, keeper, held)
    rescue = partial(_rescue, runner, keeper, news)
    services = [
        Service("heartbeat", keeper.run_once, settings.heartbeat, news=keeper.news),
        Service("strays", strays, settings.heartbeat),
        Service("lease", keeper.watch, keeper.watches_every),
        Service("rescue", rescue, settings.rescue),
        Service("overdue", crew.end_overdue, _LOOK_FOR_OVERDUE),
        Service("forget", node.forget_silent, SILENT_NODE / 10),
    ]
    if watch is not None:
        services.append(Service("watch", watch.run_once, _LOOK_FOR_SILENCE))
    return services


def _give_back_strays(runner: Runner, keeper: Keeper, held: HeldClaims) -> None:
    """Give back what is ours without being held."""
    if keeper.can_claim:
        runner.strays.give_back_unheld(held.all())


def _rescue(runner: Runner, keeper: Keeper, news: News) -> bool:
    """Take back what dead workers held; return False when there may be more of it."""
    try:
        rescued = runner.rescue() if keeper.may_rescue else 0
    except Exception as error:
        if is_table_locked(error):
            keeper.rest()  # nobody can renew a lease now either
        raise
    if rescued:
        news.hint()
    return rescued < RESCUED_AT_ONCE
