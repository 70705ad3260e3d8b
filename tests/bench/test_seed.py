"""Rows that the benchmark seeds by SQL are those that a submit leaves."""

import pytest
from sqlalchemy import select

from bench.app import RESOURCES, make_app
from bench.databases import Database
from bench.seed import jobs, submit_orders


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.__name__)
def test_a_seeded_order_and_its_job_equal_a_submitted_one(database_url, resource):
    app = make_app(database_url)
    app.create_all()
    database = Database(kind="any", url=database_url, app=app)

    submit_orders(database, resource, 2)  # one by SQL, one through the API

    varies = {
        "id",
        "record_id",
        "dedupe_key",
        "idempotency_key",
        "run_at",
        "enqueued_at",
    }
    with app.engine.connect() as connection:
        by_sql, by_api = connection.execute(select(jobs).order_by(jobs.c.id)).mappings()
        table = resource.__table__
        first, second = connection.execute(
            select(table).order_by(table.c.id)
        ).mappings()
    assert _without(by_sql, varies) == _without(by_api, varies)
    assert len(by_sql["idempotency_key"]) == len(by_api["idempotency_key"])
    assert (
        by_sql["dedupe_key"].rpartition(":")[0]
        == by_api["dedupe_key"].rpartition(":")[0]
    )
    assert _without(first, {"id", "state_changed_at"}) == _without(
        second, {"id", "state_changed_at"}
    )
    assert len(app.drain()) == 2
    app.engine.dispose()


def _without(row, names):
    return {name: value for name, value in row.items() if name not in names}
