"""The payment gateway itself: a real HTTP server that fails by plan.

It remembers each idempotency key, and charges a key at most once. What it answers follows from
the seed, the order and the number of the call, so that a run can be repeated.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class Answer(StrEnum):
    """What the gateway does with a call."""

    CHARGED = "charged"
    SLOW = "slow"
    """Charges, and takes its time."""
    LOST = "lost"
    """Charges, and closes the connection without an answer."""
    DECLINED = "declined"
    UNAVAILABLE = "unavailable"


A = Answer
DECK: Sequence[tuple[Answer, ...]] = (
    (A.LOST,),
    (A.UNAVAILABLE, A.LOST),
    (A.UNAVAILABLE, A.UNAVAILABLE),
    (A.DECLINED,),
    (A.SLOW,),
    *[()] * 15,
)
"""First answers for twenty orders in a row, in an order that the seed decides; then `CHARGED`."""


def planned_answer(seed: int, order: int, call: int) -> Answer:
    """Return the answer to a call for *order*; calls count from 1 on, outages left out."""
    block, place = divmod(order, len(DECK))
    deck = list(DECK)
    random.Random(f"{seed}:{block}").shuffle(deck)
    answers = deck[place]
    return answers[call - 1] if call <= len(answers) else A.CHARGED


@dataclass(slots=True)
class Payment:
    """What the gateway remembers of one idempotency key."""

    key: str
    order: int
    amount: int
    answers: list[Answer] = field(default_factory=list)
    charges: int = 0
    """How often money moved; the server's own rule allows one."""


@dataclass(frozen=True, slots=True)
class Outage:
    """Seconds after the first call between which every call is refused."""

    begins: float = 1.5
    ends: float = 4.0


class PaymentServer(ThreadingHTTPServer):
    """The gateway on a free port of the loopback interface, while the `with` block runs."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *, seed: int, outage: Outage | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self._seed, self._outage = seed, outage or Outage()
        self._first_call_at: float | None = None
        self._payments: dict[str, Payment] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(
            target=self.serve_forever, args=(0.05,), daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing.set()
        self.shutdown()
        self.server_close()
        self._thread.join()

    @property
    def is_out(self) -> bool:
        """Whether the outage is on."""
        if self._first_call_at is None:
            return False
        return (
            self._outage.begins
            <= time.monotonic() - self._first_call_at
            < self._outage.ends
        )

    def charge(self, key: str, order: int, amount: int) -> Answer:
        """Do what the plan says for this call; money moves at most once for a key."""
        self._first_call_at = self._first_call_at or time.monotonic()
        if self.is_out:
            return A.UNAVAILABLE
        with self._lock:
            payment = self._payments.setdefault(key, Payment(key, order, amount))
            answer = planned_answer(self._seed, order, len(payment.answers) + 1)
            payment.answers.append(answer)
            if answer in {A.CHARGED, A.SLOW, A.LOST} and not payment.charges:
                payment.charges += 1
            rng = random.Random(f"{self._seed}:{order}:{len(payment.answers)}")
        self._closing.wait(1.0 if answer is A.SLOW else rng.uniform(0.05, 0.25))
        return answer

    def payments(self) -> list[dict[str, Any]]:
        """Return every payment as plain values."""
        with self._lock:
            return [asdict(payment) for payment in self._payments.values()]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing when a caller has gone, as a killed worker does."""


class _Handler(BaseHTTPRequestHandler):
    server: PaymentServer

    def do_GET(self) -> None:
        """List the payments, or tell whether charges are taken."""
        if self.path == "/charges":
            self._answer(HTTPStatus.OK, self.server.payments())
        elif self.server.is_out:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "out of order"})
        else:
            self._answer(HTTPStatus.OK, {})

    def do_POST(self) -> None:
        """Charge."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = self.headers["Idempotency-Key"]
        match self.server.charge(key, body["order"], body["amount"]):
            case A.LOST:
                self.close_connection = True
            case A.DECLINED:
                self._answer(HTTPStatus.PAYMENT_REQUIRED, {"error": "card declined"})
            case A.UNAVAILABLE:
                self._answer(
                    HTTPStatus.SERVICE_UNAVAILABLE, {"error": "try again later"}
                )
            case A.CHARGED | A.SLOW:
                self._answer(HTTPStatus.OK, {"charge": f"ch_{key[:12]}"})

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        """Keep quiet."""

    def _answer(self, status: HTTPStatus, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
