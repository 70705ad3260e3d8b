"""Demos to look at: one that ran undisturbed, and those that a test starts itself."""

import json
import sys

import pytest

from tests.support.demo import EXAMPLES, Demo

sys.path.insert(0, str(EXAMPLES))  # the example imports itself as order_flow


@pytest.fixture
def start_demo(tmp_path):
    """Starts demos, and ends those that a failed test left."""
    started = []

    def start(*options):
        started.append(Demo(tmp_path, *options))
        return started[-1]

    yield start
    for demo in started:
        demo.end()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A demo that ran undisturbed on a SQLite file of its own."""
    demo = Demo(tmp_path_factory.mktemp("demo"), "--json", "--orders", "40")
    try:
        demo.wait()
    finally:
        demo.end()
    return demo


@pytest.fixture(scope="module")
def report(finished):
    return json.loads(finished.output)
