"""`statejobs demo`: the shop under load, with a gateway that fails and a worker to kill."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import inspect, select

from order_flow.app import make_app
from order_flow.gateway import PaymentGateway
from order_flow.models import Base, Order, S
from order_flow.payment_server import PaymentServer
from order_flow.people import plan_visits, receive, retry_failed
from order_flow.progress import Progress, read_progress
from order_flow.records import read_records
from order_flow.report import Report, check_everything
from order_flow.screen import Scene, Screen, open_screen
from order_flow.worker_process import WorkerProcess
from statejobs import ConfigurationError, StateJobs, utcnow

HOLDS, DOES_NOT_HOLD, INTERRUPTED = 0, 1, 130

_TICK = 0.2  # seconds between two looks
_PATIENCE = 60.0  # seconds without any move, after which it gives up


def run_demo(
    *, database: str | None, orders: int, seed: int, plain: bool, as_json: bool
) -> int:
    """Run the demo; return 0 when everything that it claims holds, else 1.

    Args:
        database: URL of a database without orders; by default a SQLite file that is removed.
        orders: How many orders the customers place.
        seed: Decides what customers and gateway do.
        plain: A line each second instead of the live display.
        as_json: Only the closing report, as one JSON document.

    Raises:
        ConfigurationError: The database holds orders already.
    """
    try:
        with _signals_as_ctrl_c(), TemporaryDirectory(prefix="order_flow-") as folder:
            url = database or f"sqlite:///{folder}/shop.db"
            demo = _Demo(url, Path(folder), orders=orders, seed=seed)
            report = demo.run(plain=plain, as_json=as_json)
    except KeyboardInterrupt:
        print("Stopped: the worker and the gateway have ended.", file=sys.stderr)
        return INTERRUPTED
    print(json.dumps(report.as_json(), indent=2) if as_json else report.as_text())
    return HOLDS if report.holds else DOES_NOT_HOLD
