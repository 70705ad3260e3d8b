"""`statejobs demo`: the shop under load, with a gateway that fails and a worker to kill."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Table, inspect, select

from order_flow.app import make_app
from order_flow.gateway import PaymentGateway
from order_flow.models import Base
from order_flow.payment_server import PaymentServer
from order_flow.people import plan_visits, receive, retry_failed
from order_flow.progress import Move, read_progress
from order_flow.records import read_records
from order_flow.report import Report, check_everything
from order_flow.screen import Scene, Screen, open_screen
from order_flow.worker_process import WorkerProcess
from statejobs import ConfigurationError, StateJobs, metadata, utcnow

HOLDS, DOES_NOT_HOLD, INTERRUPTED = 0, 1, 130

_NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
_OUR_TABLES = (
    "statejobs_jobs",
    "statejobs_attempts",
    "statejobs_transitions",
    "statejobs_nodes",
)
_TICK = 0.2  # seconds between two looks
_ROUND = 2.0  # seconds between two rounds of the operator
_PATIENCE = 60.0  # seconds without any move, after which the demo gives up
_PATIENCE_ALONE = 600.0  # the same while no worker is left: a person is to start one


def run_demo(
    *, database: str | None, orders: int, seed: int, plain: bool, as_json: bool
) -> int:
    """Run the demo; return 0 when everything that it claims holds, else 1.

    Args:
        database: URL of an empty database; by default a SQLite file that is removed.
        orders: How many orders the customers place.
        seed: Decides what customers and gateway do.
        plain: A line each second instead of the live display.
        as_json: Only the closing report, as one JSON document.

    Raises:
        ConfigurationError: The database holds rows already.
    """
    try:
        with (
            _signals_as_ctrl_c() as told,
            TemporaryDirectory(prefix="order_flow-") as folder,
        ):
            report = _run(
                database, Path(folder), orders, seed, told, plain=plain, as_json=as_json
            )
    except KeyboardInterrupt:
        print("Stopped. The worker and the gateway have ended.", file=sys.stderr)
        return INTERRUPTED
    print(json.dumps(report.as_json(), indent=2) if as_json else report.as_text())
    return HOLDS if report.holds else DOES_NOT_HOLD


def _run(
    database: str | None,
    folder: Path,
    orders: int,
    seed: int,
    told: Sequence[int],
    *,
    plain: bool,
    as_json: bool,
) -> Report:
    url = database or f"sqlite:///{folder}/shop.db"
    with _open_shop(url) as jobs, PaymentServer(seed=seed) as server:
        gateway = PaymentGateway(server.url)
        name = _NAMES[jobs.engine.dialect.name]
        began = utcnow()
        with WorkerProcess(url, server.url, log=folder / "worker.log") as worker:
            title = f"order_flow: {orders} orders on {name}, seed {seed}"
            with open_screen(
                title=title, restart=worker.restart, plain=plain, as_json=as_json
            ) as screen:
                run = _Run(
                    jobs, gateway, worker, screen, orders=orders, seed=seed, began=began
                )
                run.play(told)
        seconds = (utcnow() - began).total_seconds()
        records = read_records(jobs, payments=gateway.payments(), began=began)
    checks = check_everything(records, planned=orders)
    return Report(
        records=records, checks=checks, database=name, seed=seed, seconds=seconds
    )


class _Run:
    """Customers come, the operator makes rounds, and the screen shows it, until all is over."""

    def __init__(
        self,
        jobs: StateJobs,
        gateway: PaymentGateway,
        worker: WorkerProcess,
        screen: Screen,
        *,
        orders: int,
        seed: int,
        began: datetime,
    ) -> None:
        self._jobs, self._gateway, self._worker, self._screen = (
            jobs,
            gateway,
            worker,
            screen,
        )
        self._orders, self._began = orders, began
        self._visits = plan_visits(orders, seed)
        self._next_round_at = _ROUND
        self._last_moves: tuple[Move, ...] = ()
        self._moved_at = 0.0

    def play(self, told: Sequence[int]) -> None:
        """Go on until every order has ended, or nothing moves any more, or a signal *told* so."""
        wait = threading.Event().wait
        while True:
            scene = self._look()
            self._screen.show(scene)
            if scene.progress.ended == self._orders or self._is_stuck(scene):
                return
            self._let_customers_in(scene.progress.seconds)
            self._let_operator_look(scene)
            wait(_TICK)
            if told:  # its exception may have been lost in a callback
                raise KeyboardInterrupt

    def _look(self) -> Scene:
        return Scene(
            progress=read_progress(self._jobs, began=self._began),
            planned=self._orders,
            gateway_is_up=self._gateway.is_up(),
            worker_ending=self._worker.ending,
        )

    def _is_stuck(self, scene: Scene) -> bool:
        progress = scene.progress
        if progress.moves != self._last_moves:
            self._last_moves, self._moved_at = progress.moves, progress.seconds
        patience = _PATIENCE if scene.worker_ending is None else _PATIENCE_ALONE
        is_stuck = progress.seconds - self._moved_at > patience
        if is_stuck:
            print(
                f"Nothing has moved for {patience:.0f} s. The worker's log ends with:\n"
                f"{self._worker.log}",
                file=sys.stderr,
            )
        return is_stuck

    def _let_customers_in(self, seconds: float) -> None:
        while self._visits and self._visits[0].at <= seconds:
            receive(self._jobs, self._visits.popleft())

    def _let_operator_look(self, scene: Scene) -> None:
        """Retry what failed, now and then, and not while the gateway is down."""
        if scene.gateway_is_up and scene.progress.seconds >= self._next_round_at:
            self._next_round_at = scene.progress.seconds + _ROUND
            retry_failed(self._jobs)


@contextmanager
def _open_shop(url: str) -> Iterator[StateJobs]:
    """Open a shop that has no orders yet, with every table."""
    jobs = make_app(url)
    try:
        _refuse_rows_of_others(jobs)
        jobs.create_all()
        yield jobs
    finally:
        jobs.engine.dispose()


def _refuse_rows_of_others(jobs: StateJobs) -> None:
    inspector = inspect(jobs.engine)
    for table in (
        *Base.metadata.sorted_tables,
        *(metadata.tables[name] for name in _OUR_TABLES),
    ):
        if not inspector.has_table(table.name):
            continue
        columns = {column["name"] for column in inspector.get_columns(table.name)}
        if columns == set(table.columns.keys()) and _is_empty(jobs, table):
            continue
        raise ConfigurationError(
            f"table {table.name!r} of this database is in use",
            why="an earlier demo or another app has rows there, and the demo touches only its own",
            fix="give it an empty database, or on PostgreSQL a schema: CREATE SCHEMA order_flow, "
            "and the URL with ?options=-csearch_path%3Dorder_flow",
        )


def _is_empty(jobs: StateJobs, table: Table) -> bool:
    with jobs.session() as session:
        return session.execute(select(table).limit(1)).first() is None


@contextmanager
def _signals_as_ctrl_c() -> Iterator[Sequence[int]]:
    """Let SIGTERM and a closed terminal end the demo as Ctrl-C does; yield what signals came."""
    told: list[int] = []

    def tell(number: int, _frame: object) -> None:
        told.append(number)
        raise KeyboardInterrupt

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, tell) for number in signals]
    try:
        yield told
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
