"""The closing report sees what it claims to rule out."""

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
from order_flow.models import S
from order_flow.progress import Move
from order_flow.records import Records
from order_flow.report import Report, check_everything


def move(name, source, target):
    return Move(
        seconds=0,
        order=1,
        name=name,
        source=source,
        target=target,
        actor=None,
        attempt=None,
        reason=None,
    )


def payment(order=1, key="k1", amount=42, charges=1):
    return {
        "key": key,
        "order": order,
        "amount": amount,
        "charges": charges,
        "answers": ["charged"],
    }


HISTORY = [
    move("create", None, S.DRAFT),
    move("submit", S.DRAFT, S.QUEUED),
    move("process_payment.start", S.QUEUED, S.PROCESSING),
    move("process_payment.complete", S.PROCESSING, S.COMPLETED),
]
GOOD = Records(
    orders={"1": SimpleNamespace(state=S.COMPLETED, total=42)},
    receipts=Counter({"1": 1}),
    jobs={},
    histories={"1": HISTORY},
    outcomes={},
    payments=[payment()],
)
FAILED = [*HISTORY[:3], move("process_payment.discard", S.PROCESSING, S.FAILED)]


def broken_claims(records, planned=1):
    return [
        check.claim
        for check in check_everything(records, planned=planned)
        if not check.holds
    ]


def test_nothing_is_wrong_with_a_good_run():
    assert broken_claims(GOOD) == []


def test_a_missing_order_shows():
    assert "Every order is completed or cancelled." in broken_claims(GOOD, planned=2)


FINAL = "Every order is completed or cancelled."
RETRIED = "Every order that failed was retried."
CHAINED = "Every history is an unbroken chain that ends in the order's state."
RECEIVED = "Every completed order has one receipt, and no other order has any."
CHARGED = "Every completed order was charged once, and no other order at all."
ONCE_A_KEY = "No idempotency key was charged twice."
AMOUNT = "Every charge was for the total of its order."
BREACHES = {
    "unfinished": ({"orders": {"1": SimpleNamespace(state=S.QUEUED, total=42)}}, FINAL),
    "failed": ({"histories": {"1": FAILED}}, RETRIED),
    "skipped step": ({"histories": {"1": [*HISTORY[:2], HISTORY[3]]}}, CHAINED),
    "lost step": ({"histories": {"1": HISTORY[:3]}}, CHAINED),
    "two receipts": ({"receipts": Counter({"1": 2})}, RECEIVED),
    "no receipt": ({"receipts": Counter()}, RECEIVED),
    "charged under two keys": ({"payments": [payment(), payment(key="k2")]}, CHARGED),
    "not charged": ({"payments": []}, CHARGED),
    "charged twice": ({"payments": [payment(charges=2)]}, ONCE_A_KEY),
    "wrong amount": ({"payments": [payment(amount=41)]}, AMOUNT),
}


@pytest.mark.parametrize(("changes", "claim"), BREACHES.values(), ids=BREACHES)
def test_a_breach_shows(changes, claim):
    assert claim in broken_claims(replace(GOOD, **changes))


def report_of(records):
    return Report(records=records, checks=[], database="SQLite", seed=1, seconds=1.0)


def test_an_answer_that_tells_of_an_earlier_charge_is_marked():
    job = SimpleNamespace(attempt=3)
    answers = ["unavailable", "lost", "charged"]
    records = replace(
        GOOD, jobs={"1": job}, payments=[{**payment(), "answers": answers}]
    )

    text = report_of(records).as_text()

    assert "unavailable, lost, charged (the same charge again)" in text
    assert "Idempotency keys: 1. Charges: 1." in text


def test_charges_under_two_keys_are_two_charges():
    records = replace(
        GOOD,
        jobs={"1": SimpleNamespace(attempt=2)},
        payments=[payment(), payment(key="k2")],
    )

    text = report_of(records).as_text()

    assert "charged, charged\n" in text
    assert "Idempotency keys: 2. Charges: 2." in text


def test_the_most_eventful_order_has_the_most_moves():
    job = SimpleNamespace(attempt=1, crashes=0)
    lost = {**payment(), "answers": ["lost", "charged"]}
    records = replace(
        GOOD,
        jobs={"1": job, "2": job},
        histories={"1": HISTORY, "2": [*HISTORY[:3], *FAILED]},
        payments=[lost],
    )

    assert report_of(records).star == "2"
