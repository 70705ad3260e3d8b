"""The closing report: claims about the run, each checked against database and gateway."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from order_flow.models import S
from order_flow.payment_server import Answer
from order_flow.progress import FINAL, Move
from order_flow.records import Records

_MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class Check:
    """A claim, and what breaks it."""

    claim: str
    breaches: Sequence[str]
    """Orders, or idempotency keys."""

    @property
    def holds(self) -> bool:
        """Whether nothing breaks it."""
        return not self.breaches


def check_everything(records: Records, *, planned: int) -> list[Check]:
    """Return the claims of the demo, checked.

    Args:
        records: What is known.
        planned: How many orders customers were to place.
    """
    completed, histories = Counter(records.completed), records.histories
    missing = [f"{planned - len(records.orders)} missing"] * (
        len(records.orders) != planned
    )
    amounts = {str(p["order"]): p["amount"] for p in records.payments if p["charges"]}
    return [
        Check(
            "Every order is completed or cancelled.",
            [
                *missing,
                *(id_ for id_, o in records.orders.items() if o.state not in FINAL),
            ],
        ),
        Check(
            "Every order that failed was retried.",
            [id_ for id_, moves in histories.items() if _count_unretried(moves)],
        ),
        Check(
            "Every history is an unbroken chain that ends in the order's state.",
            [
                id_
                for id_, o in records.orders.items()
                if not _leads(histories[id_], o.state)
            ],
        ),
        Check(
            "Every completed order has one receipt, and no other order has any.",
            _differences(records.receipts, completed),
        ),
        Check(
            "Every completed order was charged once, and no other order at all.",
            _differences(records.charges, completed),
        ),
        Check(
            "No idempotency key was charged twice.",
            [payment["key"] for payment in records.payments if payment["charges"] > 1],
        ),
        Check(
            "Every charge was for the total of its order.",
            [
                id_
                for id_, amount in amounts.items()
                if records.orders[id_].total != amount
            ],
        ),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the demo prints in the end."""

    records: Records
    checks: Sequence[Check]
    database: str
    seed: int
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether every claim holds."""
        return all(check.holds for check in self.checks)

    @property
    def star(self) -> str | None:
        """The order with the longest history."""
        return max(
            self.records.jobs,
            key=lambda id_: len(self.records.histories[id_]),
            default=None,
        )

    def figures(self) -> dict[str, int]:
        """Return how much happened."""
        records = self.records
        moves = [move for history in records.histories.values() for move in history]
        return {
            "orders": len(records.orders),
            **{state.value: 0 for state in FINAL},
            **Counter(order.state.value for order in records.orders.values()),
            "receipts": records.receipts.total(),
            "attempts": sum(job.attempt for job in records.jobs.values()),
            "failed_attempts": records.outcomes.get("failed", 0),
            "crashed_attempts": records.outcomes.get("crashed", 0),
            "declined_cards": records.outcomes.get("cancelled", 0),
            "gave_up": sum(move.target == S.FAILED for move in moves),
            "retried": sum(move.name == "retry" for move in moves),
            "charges": records.charges.total(),
            "lost_answers": len(self._orders_with_lost_answer()),
        }

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "holds": self.holds,
            "database": self.database,
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            **self.figures(),
            "checks": [
                {
                    "claim": check.claim,
                    "holds": check.holds,
                    "breaches": list(check.breaches),
                }
                for check in self.checks
            ],
            "charged_once_despite_a_lost_answer": [
                {
                    "order": int(order),
                    "attempts": self.records.jobs[order].attempt,
                    "answers": self.records.answers(order),
                    "charges": self.records.charges[order],
                }
                for order in self._orders_with_lost_answer()
            ],
            "most_eventful": {
                "order": int(self.star),
                "answers": self.records.answers(self.star),
                "moves": [asdict(move) for move in self.records.histories[self.star]],
            }
            if self.star
            else None,
        }

    def as_text(self) -> str:
        """Return the report for people."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        n = self.figures()
        yield (
            f"{n['orders']} orders on {self.database} in {self.seconds:.1f} s: "
            f"{n['completed']} completed, {n['cancelled']} cancelled."
        )
        yield (
            f"{n['attempts']} attempts: {n['failed_attempts']} failed, "
            f"{n['declined_cards']} met a declined card, "
            f"{n['crashed_attempts']} died with their worker."
        )
        yield (
            f"{n['gave_up']} times an order came to 'failed'; "
            f"{n['retried']} times the operator retried one."
        )
        yield (
            f"{n['charges']} charges, of which {n['lost_answers']} lost their answer on the way; "
            f"{n['receipts']} receipts."
        )
        yield "\nProved from the database and the gateway:"
        for check in self.checks:
            yield f"  {'yes' if check.holds else 'NO '}  {check.claim}"
            if not check.holds:
                yield f"       It does not hold for {', '.join(check.breaches[:_MOST_NAMED])}"
        if self.star:
            yield f"\nThe most eventful order, number {self.star}:"
            yield from self._timeline(self.star)

    def _timeline(self, order: str) -> Iterator[str]:
        for move in self.records.histories[order]:
            yield f"  {move.seconds:6.2f} s  {move.path:<23}  {move.cause}"
        asked = [
            payment
            for payment in self.records.payments
            if str(payment["order"]) == order
        ]
        if answers := [
            answer for payment in asked for answer in _marked(payment["answers"])
        ]:
            yield f"  The gateway's answers, outage left out: {', '.join(answers)}"
            yield f"  Idempotency keys: {len(asked)}. Charges: {self.records.charges[order]}."

    def _orders_with_lost_answer(self) -> list[str]:
        return [
            id_ for id_ in self.records.jobs if Answer.LOST in self.records.answers(id_)
        ]


def _marked(answers: Sequence[str]) -> Iterator[str]:
    """Say of an answer that told of a charge made earlier, under the same key, that it did."""
    was_charged = False
    for answer in answers:
        tells = answer in {Answer.CHARGED, Answer.SLOW, Answer.LOST}
        yield f"{answer} (the same charge again)" if tells and was_charged else answer
        was_charged = was_charged or tells


def _count_unretried(moves: Sequence[Move]) -> int:
    failed = sum(move.target == S.FAILED for move in moves)
    return failed - sum(move.name == "retry" for move in moves)


def _leads(moves: Sequence[Move], state: str) -> bool:
    begins = bool(moves) and moves[0].source is None
    return (
        begins
        and moves[-1].target == state
        and all(before.target == after.source for before, after in pairwise(moves))
    )


def _differences(found: Counter[str], expected: Counter[str]) -> list[str]:
    return sorted(id_ for id_ in found | expected if found[id_] != expected[id_])
