"""The retry policy is a law over attempts, crashes and outcomes."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from statejobs import Cancel, Job, JobState, Snooze
from statejobs.machine.kernel import Kernel
from statejobs.values.failure import Failure
from statejobs.values.lifecycle import (
    JOB_MACHINE,
    Landing,
    backoff_step,
    counted,
    settle,
)
from statejobs.values.outcome import (
    Complete,
    Crash,
    Fail,
    GiveBack,
    Release,
    Stale,
    Superseded,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)
FAILED = Fail(failure=Failure(error_type="E", message="m", traceback=""))
OUTCOMES = [
    Complete(),
    FAILED,
    Snooze(minutes=1),
    Cancel("no"),
    Crash(),
    Release(),
    Stale("moved"),
    Superseded("moved"),
    GiveBack(failure=FAILED.failure),
]
JOB = Job(
    id=1,
    key="k",
    queue="q",
    priority=0,
    state=JobState.PROCESSING,
    run_at=NOW,
    args="{}",
    resource="R",
    record_id="1",
    record_source="queued",
    dedupe_key="k:1",
    idempotency_key="i",
    actor=None,
    tenant=None,
    tags="[]",
    attempt=1,
    max_attempts=5,
    crashes=0,
    coalesced=0,
    run_again=False,
    lease_until=NOW,
    owner="n",
    token="t",
    cancel_requested=False,
    progress=None,
    checkpoint=None,
    enqueued_at=NOW,
    started_at=NOW,
    finished_at=None,
    reason=None,
    returned=0,
    meta={},
    unique_until=None,
    outcome=None,
    snoozes=0,
    result=None,
    allowance=None,
    tick_at=None,
)
limits = st.integers(1, 20)
jobs = st.builds(
    lambda most, part, crashes: structs.replace(
        JOB, max_attempts=most, attempt=1 + part % most, crashes=crashes
    ),
    limits,
    st.integers(0, 50),
    st.integers(0, 5),
)


def settled(job, outcome, max_crashes=3, max_snoozes=3):
    return settle(
        job,
        outcome,
        now=NOW,
        wait=timedelta(seconds=15),
        max_crashes=max_crashes,
        max_snoozes=max_snoozes,
    )


@given(jobs, st.sampled_from(OUTCOMES), limits)
def test_every_outcome_takes_an_edge_of_the_jobs_own_machine(job, outcome, max_crashes):
    settlement = settled(job, outcome, max_crashes)

    subject = SimpleNamespace(state="processing")
    Kernel(JOB_MACHINE).fire(subject, settlement.edge)
    assert subject.state == settlement.state


@given(jobs)
def test_a_failure_discards_exactly_when_attempts_run_out(job):
    settlement = settled(job, FAILED)

    is_last = job.attempt >= job.max_attempts
    assert (settlement.state is JobState.DISCARDED) == is_last
    assert settlement.landing is (Landing.FAILED if is_last else Landing.SOURCE)


@given(jobs, limits)
def test_a_crash_discards_when_crashes_or_attempts_run_out(job, max_crashes):
    settlement = settled(job, Crash(), max_crashes)

    gave_up = job.crashes + 1 >= max_crashes or job.attempt >= job.max_attempts
    assert (settlement.state is JobState.DISCARDED) == gave_up
    assert settlement.crashes == job.crashes + 1


@given(jobs, st.sampled_from(OUTCOMES))
def test_only_snooze_release_stale_and_faults_of_the_database_give_an_attempt_back(
    job, outcome
):
    given_back = job.attempt - settled(job, outcome).attempt

    assert given_back == isinstance(outcome, Snooze | Release | Stale | GiveBack)


@given(jobs, st.sampled_from(OUTCOMES))
def test_what_an_outcome_says_of_itself_is_what_it_does(job, outcome):
    settlement = settled(job, outcome)

    if settlement.attempt < job.attempt:
        assert not outcome.spends_attempt
    if not settlement.is_ended:
        assert outcome.may_run_again


@given(jobs)
def test_a_later_time_is_set_only_by_failure_snooze_and_faults_of_the_database(job):
    later = [o for o in OUTCOMES if settled(job, o).run_at is not None]

    assert all(isinstance(o, Fail | Snooze | GiveBack) for o in later)


@given(jobs, st.sampled_from(OUTCOMES), st.integers(0, 20))
def test_only_faults_of_the_database_in_a_row_are_counted_and_ten_at_most(
    job, outcome, returned
):
    job = structs.replace(job, returned=returned)

    now = settled(job, counted(job, outcome)).returned

    goes_on = isinstance(outcome, GiveBack) and returned < 10
    assert now == (returned + 1 if goes_on else 0)


@given(limits, st.integers(0, 50))
def test_waits_begin_anew_after_a_retry_by_a_person(allowance, made):
    first = structs.replace(JOB, attempt=made + 1, max_attempts=made + allowance)

    assert backoff_step(first, allowance) == 1
