"""The row of a worker's process: others see by it that it lives, and what it declares."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta

import msgspec
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from statejobs.runner.keeper import HeldClaims
from statejobs.runner.runner import Runner
from statejobs.store.nodes import (
    count_held,
    forget_silent_nodes,
    register_node,
    remove_node,
)
from statejobs.version import __version__

log = logging.getLogger("statejobs.worker")

SILENT_NODE = timedelta(minutes=5)
"""How long a process that died is remembered; whoever lives has told it long before."""


class Node:
    """Writes and deletes the row of this process, and those of processes that died."""

    def __init__(
        self, runner: Runner, queues: Mapping[str, int], *, declares: str | None
    ) -> None:
        self._runner = runner
        self._queues = queues
        self._declares = declares
        self._started_at: datetime | None = None
        self.is_registered = False

    def register(self) -> None:
        """Write the row."""
        self._runner.timekeeper.settle_doubt()
        now = self._runner.sources.clock.now()
        self._started_at = self._started_at or now
        with suppress(IntegrityError):  # written before, and the answer was lost
            register_node(
                self._runner.store,
                {
                    "id": self._runner.node_id,
                    "host": socket.gethostname(),
                    "pid": os.getpid(),
                    "queues": msgspec.json.encode(self._queues).decode(),
                    "version": __version__,
                    "started_at": self._started_at,
                    "beat_at": now,
                    "declares": self._declares,
                    "clock_offset": self._runner.timekeeper.offset,
                },
            )
        self.is_registered = True

    def register_again(self) -> None:
        """Write the row that somebody has deleted, unless this process did, which has left."""
        if self.is_registered:
            self.register()

    def leave(self, held: HeldClaims) -> bool:
        """Delete the row; return whether no job bears the name of this process any more."""
        self.is_registered = False
        store = self._runner.store
        node_id = self._runner.node_id
        try:
            left = count_held(store, node_id)
            remove_node(store, node_id)
        except SQLAlchemyError as error:
            log.debug("this node's row stays until it is forgotten: %s", error)
            return held.is_empty
        if left:
            log.warning("%d jobs could not be given back: they will be rescued", left)
        return not left

    def forget_silent(self) -> None:
        """Delete the rows of processes that died."""
        silent_since = self._runner.sources.clock.now() - SILENT_NODE
        forget_silent_nodes(self._runner.store, silent_since)
