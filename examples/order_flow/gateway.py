"""The shop's client of its payment gateway: plain HTTP, with an idempotency key."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

ADDRESS_VARIABLE = "ORDER_FLOW_GATEWAY"
TIMEOUT = 3.0  # seconds


class GatewayError(Exception):
    """A payment that did not go through."""


class GatewayDownError(GatewayError):
    """The gateway cannot work now; nothing was charged."""


class AnswerLostError(GatewayError):
    """The connection broke: nobody knows whether the card was charged.

    Ask again with the same idempotency key; the gateway charges a key at most once.
    """


class CardDeclinedError(GatewayError):
    """The bank said no; asking again will not help."""


@dataclass(frozen=True)
class PaymentGateway:
    """The gateway at an address such as `http://127.0.0.1:8080`."""

    url: str

    @classmethod
    def from_environment(cls) -> PaymentGateway:
        """Return the gateway that the environment names."""
        return cls(os.environ[ADDRESS_VARIABLE])

    def charge(self, order: int, amount: int, *, idempotency_key: str) -> str:
        """Charge *amount* cents for *order*; return the id of the charge.

        Raises:
            GatewayDownError: Nothing was charged.
            AnswerLostError: It may have been charged.
            CardDeclinedError: It will not be charged.
        """
        body = json.dumps({"order": order, "amount": amount})
        status, answer = self._ask(
            "POST", "/charges", body, {"Idempotency-Key": idempotency_key}
        )
        match status:
            case HTTPStatus.OK:
                return str(answer["charge"])
            case HTTPStatus.PAYMENT_REQUIRED:
                raise CardDeclinedError(answer["error"])
            case _:
                raise GatewayDownError(f"{status}: {answer['error']}")

    def payments(self) -> list[dict[str, Any]]:
        """Return what the gateway remembers, one row for each idempotency key."""
        _, answer = self._ask("GET", "/charges")
        return list(answer)

    def is_up(self) -> bool:
        """Return whether it would take a charge now."""
        try:
            status, _ = self._ask("GET", "/health")
        except GatewayError:
            return False
        return status == HTTPStatus.OK

    def _ask(
        self,
        method: str,
        path: str,
        body: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=TIMEOUT)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, json.load(response)
        except ConnectionRefusedError as error:
            raise GatewayDownError(f"nobody answers at {self.url}") from error
        except (OSError, HTTPException, json.JSONDecodeError) as error:
            raise AnswerLostError(f"no answer from {self.url}: {error!r}") from error
        finally:
            connection.close()
