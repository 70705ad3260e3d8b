"""Which screen the demo opens."""

import sys

import pytest
from order_flow import screen
from order_flow.live import LiveScreen


@pytest.fixture
def in_a_terminal(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)


def opened():
    return screen.open_screen(title="demo", restart="again", plain=False, as_json=False)


@pytest.mark.usefixtures("in_a_terminal")
def test_a_terminal_gets_the_live_picture():
    assert isinstance(opened(), LiveScreen)


@pytest.mark.usefixtures("in_a_terminal")
def test_without_the_extra_a_terminal_gets_plain_lines(monkeypatch):
    monkeypatch.setattr(screen, "find_spec", lambda _name: None)

    assert isinstance(opened(), screen.PlainScreen)
