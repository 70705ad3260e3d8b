"""Fixtures of the tests of the resource layer."""

import pytest
from sqlalchemy.orm import Session

from tests.support.shop import shop_engine


@pytest.fixture
def engine(database_url):
    """An engine on a fresh database that has the shop's tables; once on every database."""
    with shop_engine(database_url) as opened:
        yield opened


@pytest.fixture
def session(engine):
    """An ordinary Session on `engine`."""
    with Session(engine) as opened:
        yield opened
