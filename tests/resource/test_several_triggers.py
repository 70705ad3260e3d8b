"""A move may run several triggers: each has its job, in the same transaction."""

from collections import Counter

import pytest
from sqlalchemy import insert, select, true, update
from sqlalchemy.orm import Session

from statejobs import BulkResult, Domain, Enqueued, StateJobs, mermaid, override_state
from statejobs.store.tables import jobs
from tests.resource.support import statements_on
from tests.support.flyers import Base, Flyer, FlyerState, S
from tests.support.shop import read_jobs, shop_engine

BOTH = [("flyer.index", '{"deep":true}', "default"), ("flyer.notify", "{}", "mails")]


@pytest.fixture
def engine(database_url):
    with shop_engine(database_url, Base) as opened:
        yield opened


@pytest.fixture
def session(engine):
    with Session(engine, expire_on_commit=False) as opened:
        yield opened


def new_flyers(session, number=1, *, published=False):
    """Commit flyers; those that are *published* have only the jobs of that."""
    flyers = [Flyer() for _ in range(number)]
    session.add_all(flyers)
    if published:
        for flyer in flyers:
            flyer.publish()
    session.commit()
    return flyers


def queued(engine, flyer_id=None):
    """What waits for a flyer, in the order of the keys."""
    return sorted(
        (job.key, job.args, job.queue)
        for job in read_jobs(engine)
        if job.state == "queued" and flyer_id in {None, int(job.record_id)}
    )


def test_a_transition_enqueues_the_job_of_each_trigger(engine, session):
    (flyer,) = new_flyers(session)

    flyer.publish()
    session.commit()

    assert queued(engine, flyer.id) == BOTH


def test_one_statement_enqueues_all_jobs_of_a_flush(engine, session):
    flyers = new_flyers(session, 3)

    with statements_on(engine) as count:
        for flyer in flyers:
            flyer.publish()
        session.commit()

    assert count("INSERT INTO statejobs_jobs") == 1
    assert len(queued(engine)) == 6


def test_a_rollback_takes_all_of_them(engine, session):
    (flyer,) = new_flyers(session)

    flyer.publish()
    session.flush()
    session.rollback()

    assert [key for key, *_ in queued(engine)] == ["flyer.scan", "flyer.spell"]


def test_creation_enqueues_the_job_of_each_trigger(engine, session):
    (flyer,) = new_flyers(session)

    assert [key for key, *_ in queued(engine, flyer.id)] == [
        "flyer.scan",
        "flyer.spell",
    ]


def test_leaving_the_state_cancels_each_job(engine, session):
    (flyer,) = new_flyers(session, published=True)

    flyer.withdraw()
    session.commit()

    left = [(job.key, job.state, job.reason) for job in read_jobs(engine)]
    assert sorted(left) == [
        ("flyer.index", "cancelled", "left by withdraw"),
        ("flyer.notify", "cancelled", "left by withdraw"),
    ]


def test_an_override_enqueues_all_that_the_state_promises(engine, session):
    (flyer,) = new_flyers(session)

    with override_state(flyer, reason="imported"):
        flyer.state = S.READY
    session.commit()

    assert queued(engine, flyer.id) == BOTH


def test_one_of_several_goes_on_with_a_job_under_its_former_key(engine, session):
    (flyer,) = new_flyers(session)
    with engine.begin() as connection:
        connection.execute(
            update(jobs)
            .where(jobs.c.key == "flyer.spell")
            .values(key="flyer.tell", dedupe_key=f"flyer.tell:{flyer.id}")
        )

    flyer.publish()
    session.commit()

    waiting = [job for job in read_jobs(engine) if job.state == "queued"]
    assert sorted((job.key, job.coalesced) for job in waiting) == [
        ("flyer.index", 0),
        ("flyer.tell", 1),
    ]


def test_bulk_enqueues_for_each_trigger(engine, session):
    flyers = new_flyers(session, 3)
    session.expunge_all()

    result = Flyer.publish.bulk(session, where=true())
    session.commit()

    assert result == BulkResult(moved=3, inserted=6)
    assert [queued(engine, flyer.id) for flyer in flyers] == [BOTH, BOTH, BOTH]


def test_bulk_on_records_that_a_session_holds_enqueues_for_each_trigger(
    engine, session
):
    flyers = new_flyers(session, 3)

    result = Flyer.publish.bulk(session, where=Flyer.id != flyers[0].id)
    session.commit()

    assert result == BulkResult(moved=2, inserted=4)
    assert queued(engine, flyers[1].id) == BOTH


def test_bulk_counts_what_became_of_the_job_of_each_trigger(engine, session):
    new_flyers(session, 2, published=True)
    with engine.begin() as connection:
        connection.execute(update(Flyer.__table__).values(state=S.GONE))
        connection.execute(
            update(jobs)
            .where(jobs.c.key == "flyer.index")
            .values(state="completed", outcome="completed")
        )

    result = Flyer.publish.bulk(session, where=true())
    session.commit()

    assert result == BulkResult(moved=2, inserted=2, coalesced=2)


def test_jobs_of_one_bulk_have_idempotency_keys_of_their_own(engine, session):
    new_flyers(session, 3)

    Flyer.publish.bulk(session, where=true())
    session.commit()

    keys = Counter(job.idempotency_key for job in read_jobs(engine))
    assert max(keys.values()) == 1


def test_an_insert_enqueues_for_each_trigger_of_creation(engine, session):
    session.execute(insert(Flyer), [{"size": 1}, {"size": 2}])
    session.commit()

    made = sorted((job.key, job.record_id) for job in read_jobs(engine))
    assert made == [
        ("flyer.scan", "1"),
        ("flyer.scan", "2"),
        ("flyer.spell", "1"),
        ("flyer.spell", "2"),
    ]


def test_one_of_several_can_be_asked_for_alone(engine, session):
    (flyer,) = new_flyers(session, published=True)

    result = Flyer.do_notify.enqueue(session, flyer)
    session.commit()

    assert result.outcome is Enqueued.COALESCED


def test_all_of_them_run(database_url):
    flyers = Domain("flyers", resources=[Flyer])
    queues = {"default": 5, "mails": 5}
    with StateJobs(database_url, domains=[flyers], queues=queues) as app:
        app.create_all()
        with app.session() as session:
            new_flyers(session)[0].publish()
            session.commit()

        assert app.drain().counts == {"complete": 2}
        with app.session() as session:
            assert session.scalar(select(Flyer.state)) is FlyerState.READY


def test_the_graph_has_all_of_them():
    machine = Flyer.__machine__

    assert machine.edge("publish").keys == ("flyer.index", "flyer.notify")
    assert machine.promised_by("ready") == ("flyer.index", "flyer.notify")
    assert machine.promised_by("draft") == ("flyer.scan", "flyer.spell")
    drawn = mermaid(machine)
    assert "[*] --> draft : ⚙ flyer.scan ⚙ flyer.spell\n" in drawn
    assert "draft --> ready : publish ⚙ flyer.index ⚙ flyer.notify\n" in drawn
