"""A job that is enqueued while it runs, runs once more when it is due."""

from datetime import timedelta

from statejobs import JobState
from tests.support.parcels import Letter, enqueue, job_of


def test_a_job_enqueued_for_later_while_it_runs_waits_for_its_time(app, clock):
    (key,) = enqueue(app, Letter, "put_on_scale")
    (claim,) = app.runner().claim("default", limit=1)
    with app.session() as session:
        letter = session.get_one(Letter, key)
        Letter.put_on_scale.options(delay=timedelta(hours=1)).enqueue(session, letter)
        session.commit()

    app.runner().run(claim)

    job = job_of(app, Letter, key)
    assert (job.state, job.run_at) == (
        JobState.SCHEDULED,
        clock.now() + timedelta(hours=1),
    )
    assert app.drain().counts == {}
    clock.advance(hours=1)
    assert app.drain().counts == {"complete": 1}
