"""What a tick of a trigger would do now: how many records, which, and by which index."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from statejobs.store.dry_ticks import index_in
from tests.support.clock import NOON
from tests.support.shelves import Jar, Tin, jobs_of, put, shelf, tick

YOUNG = NOON - timedelta(hours=1)


@pytest.fixture
def app(database_url):
    with shelf(database_url) as opened:
        yield opened


def test_it_counts_what_a_tick_would_pick_and_names_three(app):
    put(app, Jar, *[{"n": n} for n in range(8)], {"put_at": YOUNG})

    would = app.dry_run_schedule("jar.clear")

    assert (would.enqueued, would.reason) == (6, None)
    assert would.records == ("Jar 1", "Jar 2", "Jar 3")
    assert jobs_of(app, "jar.clear") == []
    assert tick(app, "jar.clear").enqueued == 6


def test_what_has_a_job_already_is_not_counted(app):
    put(app, Jar, {}, {})
    tick(app, "jar.clear")
    put(app, Jar, {})

    would = app.dry_run_schedule("jar.clear")

    assert (would.enqueued, would.records) == (1, ("Jar 3",))


def test_the_limit_and_the_order_of_a_tick_are_those_of_its_dry_run(app):
    put(app, Tin, *[{"n": n} for n in (1, 5, 3, 2)])

    would = app.dry_run_schedule("tin.clear")

    assert (would.enqueued, would.records) == (3, ("Tin 2", "Tin 3", "Tin 4"))


def test_none_that_matches_is_said(app):
    would = app.dry_run_schedule("jar.clear")

    assert (would.enqueued, would.records) == (0, ())
    assert would.reason == "no record matches"


def test_it_says_whether_an_index_finds_them(app):
    put(app, Jar, *[{"put_at": YOUNG} for _ in range(3000)], {})
    without = app.dry_run_schedule("jar.clear")
    with app.engine.begin() as connection:
        connection.execute(text("CREATE INDEX ix_jars_put_at ON jars (put_at)"))
        connection.execute(text("ANALYZE jars"))

    found = app.dry_run_schedule("jar.clear")

    assert (without.index, found.index) == (None, "ix_jars_put_at")
    assert without.plan
    assert found.enqueued == 1


@pytest.mark.parametrize(
    ("plan", "index"),
    [
        (("Aggregate", "  ->  Seq Scan on jars"), None),
        (("Aggregate", "  ->  Index Scan using ix_a on jars"), "ix_a"),
        (("  ->  Index Only Scan using ix_a on jars jars_1",), "ix_a"),
        (
            (
                "  ->  Bitmap Heap Scan on jars",
                "        Recheck Cond: (x < 5)",
                "        ->  Bitmap Index Scan on ix_a",
            ),
            "ix_a",
        ),
        (
            ("  ->  Seq Scan on jars", "  ->  Index Scan using ix_j on statejobs_jobs"),
            None,
        ),
        (("SCAN jars", "SEARCH statejobs_jobs USING INDEX ix_j (a=?)"), None),
        (("SEARCH jars USING COVERING INDEX ix_a (a=?)",), "ix_a"),
        (("SEARCH old_jars USING INDEX ix_o (a=?)", "SCAN jars"), None),
    ],
)
def test_a_plan_is_read(plan, index):
    assert index_in(plan, "jars") == index
