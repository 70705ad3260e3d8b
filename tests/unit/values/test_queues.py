"""Which queues a worker serves, and with what limits."""

import pytest

from statejobs.values.queues import served_queues

APP = {"default": 10, "payments": 4, "mail": 2}


@pytest.mark.parametrize(
    ("chosen", "served"),
    [
        ({"payments": 5}, {"payments": 5}),
        ({"mail": None}, {"mail": 2}),
        ({"other": None}, {"other": 10}),
        ({"*": None}, APP),
        ({"payments": 5, "*": None}, {"payments": 5, "default": 10, "mail": 2}),
        ({"payments": 5, "*": 1}, {"payments": 5, "default": 1, "mail": 1}),
        ({"other": 3, "*": None}, {"other": 3, **APP}),
    ],
)
def test_a_worker_serves_what_it_was_told(chosen, served):
    assert served_queues(chosen, APP) == served
