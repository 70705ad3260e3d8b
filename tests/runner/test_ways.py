"""An action may have several targets: its body says which, and each may run triggers."""

from collections import Counter

import pytest
from sqlalchemy import select

from statejobs import JobContext, JobState, StateJobsError, mermaid, utcnow
from statejobs.values.graph import Promise
from tests.support.clock import ManualClock
from tests.support.parcels import add
from tests.support.uploads import (
    FORMS,
    Atomic,
    Moved,
    Resting,
    S,
    reset_script,
    scanner,
    script,
)


@pytest.fixture
def app(database_url):
    with scanner(database_url, ManualClock()) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _forget_script():
    yield
    reset_script()


@pytest.fixture(params=FORMS, ids=lambda form: form.__name__)
def form(request):
    """A resource whose action has one of the forms that there are."""
    return request.param


def by_number(upload, _ctx):
    """Find every second upload infected."""
    return S.INFECTED if upload.id % 2 else S.CLEAN


def scan(app, number):
    """Scan *number* uploads, and run nothing of what follows; many end together."""
    return Counter(ended.outcome for ended in app.step(number))


def states(app, form):
    with app.session() as session:
        return list(session.scalars(select(form.state).order_by(form.id)))


def jobs_of(app, word):
    """The jobs of one trigger, by record."""
    found = [job for job in app.queries.jobs() if job.key.endswith(f".{word}")]
    return {int(job.record_id): job for job in sorted(found, key=lambda job: job.id)}


def names_of(app, form, key):
    return [row["name"] for row in app.queries.transitions(form.__name__, str(key))]


def test_what_the_body_returns_says_which_way(app, form):
    script.scan = by_number
    add(app, form(), form())

    assert app.drain().counts == {"complete": 4}

    assert states(app, form) == [S.INFECTED, S.DONE]


def test_each_way_runs_its_own_triggers(app, form):
    script.scan = by_number
    add(app, *[form() for _ in range(6)])

    assert scan(app, 6) == {"complete": 6}

    assert states(app, form) == [S.INFECTED, S.CLEAN] * 3
    assert list(jobs_of(app, "render")) == [2, 4, 6]
    assert list(jobs_of(app, "alert")) == [1, 3, 5]


def test_the_history_names_the_way(app, form):
    script.scan = by_number
    key = add(app, form())

    scan(app, 1)

    assert names_of(app, form, key)[-1] == "do_scan.complete.infected"


def test_an_action_that_writes_through_its_session_goes_its_way_as_well(app, form):
    def write(upload, ctx):
        ctx.session.add(Moved(size=7))
        return by_number(upload, ctx)

    script.scan = write
    add(app, form())

    scan(app, 1)

    assert states(app, form)[0] is S.INFECTED


def test_what_it_changed_is_kept_whichever_way_it_goes(app, form):
    def note(upload, ctx):
        upload.note = f"upload {upload.id}"
        return by_number(upload, ctx)

    script.scan = note
    add(app, form(), form())

    scan(app, 2)

    with app.session() as session:
        notes = session.scalars(select(form.note).order_by(form.id)).all()
    assert notes == ["upload 1", "upload 2"]


@pytest.mark.parametrize(
    ("returned", "said"),
    [(None, "nothing"), (S.DONE, "<UploadState.DONE: 'done'>"), (True, "True")],
    ids=["nothing", "another state", "a flag"],
)
def test_a_value_that_is_no_target_fails_the_attempt(app, form, returned, said):
    script.scan = lambda _upload, _ctx: returned
    key = add(app, form())

    assert scan(app, 1) == {"fail": 1}

    assert states(app, form) == [S.SUBMITTED]
    job = jobs_of(app, "scan")[key]
    assert job.state is JobState.FAILED
    (attempt,) = app.queries.attempts(job.id)
    assert attempt["message"].startswith(
        f"action 'do_scan' returned {said}, and leads to UploadState.CLEAN or "
        "UploadState.INFECTED"
    )


def test_one_that_returns_no_target_leaves_the_others_alone(app, form):
    script.scan = lambda upload, _ctx: None if upload.id == 2 else S.CLEAN
    add(app, *[form() for _ in range(4)])

    assert scan(app, 4) == {"complete": 3, "fail": 1}

    assert states(app, form) == [S.CLEAN, S.SUBMITTED, S.CLEAN, S.CLEAN]


def test_a_second_attempt_may_go_another_way(app, form):
    script.scan = lambda _upload, ctx: None if ctx.attempt == 1 else S.INFECTED
    key = add(app, form())
    scan(app, 1)
    app.retry_job(jobs_of(app, "scan")[key].id)

    scan(app, 1)

    assert states(app, form) == [S.INFECTED]
    assert list(jobs_of(app, "render")) == []


def test_a_guard_is_asked_before(app, form):
    add(app, form(size=-1))

    assert scan(app, 1) == {"cancel": 1}
    assert states(app, form) == [S.SUBMITTED]


@pytest.mark.parametrize("form", [Moved, Resting, Atomic], ids=lambda one: one.__name__)
def test_called_directly_it_goes_the_way_that_it_returns(app, form):
    script.scan = by_number
    key = add(app, form())
    (waiting,) = app.queries.jobs()
    with app.session() as session:
        upload = session.get_one(form, key)
        ctx = JobContext(session=session, job=waiting, now=utcnow())

        assert upload.do_scan(ctx) is S.INFECTED

        assert upload.state is S.INFECTED
        session.commit()
    assert list(jobs_of(app, "alert")) == [key]


@pytest.mark.parametrize("form", [Moved, Resting, Atomic], ids=lambda one: one.__name__)
def test_called_directly_a_forgotten_return_is_an_error_that_moves_nothing(app, form):
    script.scan = lambda _upload, _ctx: None
    key = add(app, form())
    (waiting,) = app.queries.jobs()
    with app.session() as session:
        upload = session.get_one(form, key)
        ctx = JobContext(session=session, job=waiting, now=utcnow())

        with pytest.raises(StateJobsError, match="'do_scan' returned nothing"):
            upload.do_scan(ctx)

        assert upload.state is S.SUBMITTED


def test_the_graph_has_every_way():
    machine = Moved.__machine__
    (trigger, *_) = machine.triggers

    assert trigger.targets == ("clean", "infected")
    assert Moved.do_scan.targets == (S.CLEAN, S.INFECTED)
    assert Moved.do_scan.target is None
    assert machine.edge("do_scan.complete.clean").runs == (Promise("moved.render"),)
    assert machine.promised_by("infected") == ("moved.alert",)
    drawn = mermaid(machine)
    assert "scanning --> clean : complete do_scan ⚙ moved.render\n" in drawn
    assert "scanning --> infected : complete do_scan ⚙ moved.alert\n" in drawn
    assert repr(Moved.do_scan.spec) == "<action do_scan: submitted → clean, infected>"
