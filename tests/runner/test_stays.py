"""An action without a target leaves its record where it is, wherever others move it meanwhile."""

from collections import Counter

import pytest
from sqlalchemy import select

from statejobs import JobContext, JobState, Sources, mermaid, utcnow
from statejobs.people.obstacles import why_nothing_runs
from tests.support.parcels import run_async
from tests.support.processes import eventually
from tests.support.reports import (
    FORMS,
    Atomic,
    Plain,
    S,
    Sheet,
    office,
    reset_script,
    script,
)


@pytest.fixture
def app(database_url):
    with office(database_url) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _forget_script():
    yield
    reset_script()


@pytest.fixture(params=FORMS, ids=lambda form: form.__name__)
def form(request):
    """A resource whose second action has one of the forms that there are."""
    return request.param


def submit(app, form, number=1, **values):
    """Commit submitted reports; return their keys."""
    with app.session() as session:
        reports = [form(**values) for _ in range(number)]
        session.add_all(reports)
        for report in reports:
            report.submit()
        session.commit()
        return [report.id for report in reports]


def claim(app, queue):
    (found,) = app.runner().claim(queue, limit=1)
    return found


def run(app, claimed):
    """Run a claimed job; return how it ended."""
    if claimed.policy.is_async:
        return run_async(app, claimed)
    return app.runner().run(claimed)


def load(app, form, key):
    with app.session() as session:
        return session.get_one(form, key)


def jobs_of(app, word):
    """The jobs of one trigger, by record."""
    found = [job for job in app.queries.jobs() if job.key.endswith(f".{word}")]
    return {int(job.record_id): job for job in sorted(found, key=lambda job: job.id)}


def tell(report, _ctx):
    report.told = f"of {report.id}"


# Alone ---------------------------------------------------------------------------------------


def test_its_end_moves_nothing(app, form):
    (key,) = submit(app, form)
    before = load(app, form, key)

    assert app.drain(queues=["mails"]).counts == {"complete": 1}

    after = load(app, form, key)
    assert (after.state, after.state_version) == (S.QUEUED, before.state_version)
    assert after.state_changed_at == before.state_changed_at
    steps = app.queries.transitions(form.__name__, str(key))
    assert [row["name"] for row in steps] == ["create", "submit"]


def test_what_it_changed_is_kept(app, form):
    script.notify = tell
    (key,) = submit(app, form)

    app.drain(queues=["mails"])

    assert load(app, form, key).told == f"of {key}"


def test_what_it_writes_through_its_session_is_kept(app, form):
    script.notify = lambda report, ctx: ctx.session.add(Plain(told=f"by {report.id}"))
    (key,) = submit(app, form)

    app.drain(queues=["mails"])

    with app.session() as session:
        told = session.scalars(select(Plain.told)).all()
    assert f"by {key}" in told


def test_many_end_together(app, form):
    script.notify = tell
    keys = submit(app, form, 9)
    app.drain(queues=["default"])

    ended = Counter(one.outcome for one in app.step(9))

    assert ended == {"complete": 9}
    assert [load(app, form, key).told for key in keys] == [f"of {key}" for key in keys]


def test_an_attempt_that_fails_leaves_it_where_it_is_and_is_tried_again(app, form):
    def refuse(_report, _ctx):
        raise ValueError("no post")

    script.notify = refuse
    (key,) = submit(app, form)

    assert app.drain(queues=["mails"]).counts == {"fail": 1}
    app.retry_job(jobs_of(app, "notify")[key].id)
    script.notify = tell
    assert app.drain(queues=["mails"]).counts == {"complete": 1}

    assert load(app, form, key).state is S.QUEUED


def test_a_job_that_gave_up_leaves_it_where_it_is(app, form):
    def refuse(_report, _ctx):
        raise ValueError("no post")

    script.notify = refuse
    (key,) = submit(app, form)
    app.drain(queues=["mails"])
    app.sources.clock.advance(days=1)

    assert app.drain(queues=["mails"]).counts == {"discard": 1}

    assert load(app, form, key).state is S.QUEUED


def test_a_guard_is_asked_before(app, form):
    submit(app, form, pages=-1)

    assert app.drain(queues=["mails"]).counts == {"cancel": 1}


# Beside one that moves the record ----------------------------------------------------------------


def test_it_ends_wherever_the_other_moved_the_record_meanwhile(app, form):
    script.notify = tell
    (key,) = submit(app, form)
    telling = claim(app, "mails")
    app.drain(queues=["default"])

    run(app, telling)

    found = load(app, form, key)
    assert jobs_of(app, "notify")[key].state is JobState.COMPLETED
    assert (found.state, found.told) == (S.RENDERED, f"of {key}")


def test_it_runs_while_the_other_runs(app, form):
    script.notify = tell
    (key,) = submit(app, form)
    rendering = claim(app, "default")

    assert app.drain(queues=["mails"]).counts == {"complete": 1}
    assert load(app, form, key).state is S.RENDERING
    run(app, rendering)

    found = load(app, form, key)
    assert (found.state, found.told) == (S.RENDERED, f"of {key}")


def test_the_other_starts_while_it_runs(app, form):
    (key,) = submit(app, form)
    telling = claim(app, "mails")

    rendering = claim(app, "default")

    assert load(app, form, key).state is S.RENDERING
    run(app, telling)
    run(app, rendering)
    assert load(app, form, key).state is S.RENDERED


def test_it_runs_where_the_record_is_final(app, form):
    (key,) = submit(app, form)
    app.drain(queues=["default"])

    assert app.drain(queues=["mails"]).counts == {"complete": 1}
    assert load(app, form, key).state is S.RENDERED


def test_a_record_that_is_gone_supersedes_it(app, form):
    script.notify = tell
    (key,) = submit(app, form)
    telling = claim(app, "mails")
    with app.session() as session:
        session.delete(session.get_one(form, key))
        session.commit()

    ended = run(app, telling)

    assert ended.outcome == "cancel"


def test_leaving_all_its_states_cancels_what_waits(app, form):
    (key,) = submit(app, form)
    with app.session() as session:
        session.get_one(form, key).drop()
        session.commit()

    job = jobs_of(app, "notify")[key]
    assert (job.state, job.reason) == (JobState.CANCELLED, "left by drop")


def test_both_run_under_a_worker(database_url):
    """Both queues at once, on the same records."""
    script.notify = tell
    with office(database_url, sources=Sources()) as app:
        keys = {form: submit(app, form, 15) for form in FORMS}
        with app.running():
            eventually(
                lambda: len(app.queries.jobs(states=["completed"], limit=200)) == 120
            )
        for form, own in keys.items():
            found = [load(app, form, key) for key in own]
            assert {one.state for one in found} == {S.RENDERED}
            assert [one.told for one in found] == [f"of {key}" for key in own]


# Elsewhere ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [Plain, Atomic], ids=lambda one: one.__name__)
def test_called_directly_it_moves_nothing(app, form):
    script.notify = tell
    (key,) = submit(app, form)
    with app.session() as session:
        report = session.get_one(form, key)
        job = jobs_of(app, "notify")[key]
        report.do_notify(JobContext(session=session, job=job, now=utcnow()))
        session.commit()

    found = load(app, form, key)
    assert (found.state, found.told) == (S.QUEUED, f"of {key}")


def test_no_record_is_said_to_wait_for_it(app):
    (key,) = submit(app, Plain)
    app.drain(queues=["mails"])
    jobs = app.queries.jobs(resource="Plain", record_id=str(key))

    assert why_nothing_runs(Plain.__statejobs__, "queued", jobs) is None


def test_the_graph_leads_back_to_each_source():
    machine = Sheet.__machine__
    (trigger,) = [one for one in machine.triggers if one.name == "notify"]

    assert (trigger.targets, trigger.deletes) == ((), False)
    assert (Plain.do_notify.target, Plain.do_notify.targets) == (None, ())
    assert machine.edge("do_notify.complete").target == "(stays)"
    drawn = mermaid(machine)
    for state in ("queued", "rendering", "rendered", "failed"):
        assert f"{state} --> {state} : run do_notify\n" in drawn
    assert repr(Plain.do_notify.spec).endswith("failed → (stays)>")
