"""What people and actions say, through every door, harms no job."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import select

from statejobs import (
    Cancel,
    Domain,
    JobState,
    Snooze,
    StateJobs,
    WorkerSettings,
    WrongValueError,
    acting_as,
    override_state,
    task,
    tenant,
)
from statejobs.config import Retention
from statejobs.store.tables import attempts, jobs, transitions
from statejobs.values.backoff import LONGEST
from statejobs.values.clock import LAST
from statejobs.values.text import NAME_LIMIT, REASON_LIMIT
from tests.support.clock import NOON, manual_sources
from tests.support.meters import Meter, meter_office
from tests.support.meters import reset_script as reset_meters
from tests.support.meters import script as meters
from tests.support.parcels import (
    Letter,
    Message,
    Parcel,
    close_app,
    enqueue,
    fire,
    job_of,
    script,
    send,
    state_of,
)
from tests.support.texts import WORDS

ALL = pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
TEXTS = {name: words for name, words in WORDS.items() if isinstance(words, str)}
OTHERS = {name: words for name, words in WORDS.items() if name not in TEXTS}


@pytest.fixture(autouse=True)
def _forget_meters():
    yield
    reset_meters()


def assert_all_texts_are_bounded(app):
    limits = {"actor": NAME_LIMIT, "tenant": NAME_LIMIT, "reason": REASON_LIMIT}
    with app.engine.connect() as connection:
        for table in (jobs, transitions, attempts):
            for row in connection.execute(select(table)).mappings():
                for name, limit in limits.items():
                    text = row.get(name)
                    assert text is None or len(text.encode()) <= limit
                    assert "\0" not in (text or "")


@ALL
def test_an_action_may_cancel_with_any_words(app, words):
    def cancel(parcel, _ctx):
        if parcel.id == bad:
            raise Cancel(words)

    script.send = cancel
    bad, good = send(app, 2)

    assert app.drain().counts == {"cancel": 1, "complete": 1}

    assert (state_of(app, Parcel, bad), state_of(app, Parcel, good)) == ("lost", "sent")
    assert job_of(app, Parcel, bad).crashes == 0
    assert_all_texts_are_bounded(app)


@ALL
def test_an_action_may_snooze_with_any_words(app, words):
    def snooze(_letter, _ctx):
        raise Snooze(seconds=1, reason=words)

    script.seal = snooze
    enqueue(app, Letter, "press", 2)  # of one transaction

    assert app.drain().counts == {"snooze": 2}
    assert_all_texts_are_bounded(app)


@ALL
def test_an_async_action_may_cancel_and_snooze_with_any_words(app, words):
    async def stop(message, _ctx):
        if message.id == 1:
            raise Cancel(words)
        raise Snooze(seconds=1, reason=words)

    script.fetch = stop
    enqueue(app, Message, "get", 2)

    assert app.drain().counts == {"cancel": 1, "snooze": 1}
    assert_all_texts_are_bounded(app)


@ALL
def test_one_record_of_a_call_may_be_cancelled_with_any_words_while_its_neighbours_complete(
    database_url, clock, words
):
    def some(found, ctx):
        ctx.cancel(found[0], words)
        ctx.snooze(found[1], timedelta.max, reason=words)

    meters.read = some
    with meter_office(database_url, clock) as app:
        enqueue(app, Meter, "read_all", 4)

        assert app.drain().counts == {"cancel": 1, "snooze": 1, "complete": 2}

        assert_all_texts_are_bounded(app)


@ALL
def test_a_call_may_cancel_as_a_whole_with_any_words(database_url, clock, words):
    def none(_found, _ctx):
        raise Cancel(words)

    meters.read = none
    with meter_office(database_url, clock) as app:
        enqueue(app, Meter, "read_all", 3)

        assert app.drain().counts == {"cancel": 3}


@pytest.mark.parametrize("words", TEXTS.values(), ids=TEXTS)
def test_anybody_may_act_for_anybody(app, words):
    with acting_as(words), tenant(words):
        (key,) = send(app)
        fire(app, Parcel, key, "drop")
        keys = send(app, 3)
        with app.session() as session:
            parcel = session.get_one(Parcel, keys[0])
            with override_state(parcel, reason=words):
                parcel.state = Parcel.drop.target
            Parcel.drop.bulk(session, where=Parcel.id == keys[1])
            session.commit()

    assert app.drain().counts.get("complete") == 1
    assert_all_texts_are_bounded(app)


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_who_acts_is_a_text_where_nobody_says_how_to_write_them(app, other):
    with acting_as(other), pytest.raises(WrongValueError, match="keep a text"):
        send(app)

    with tenant(other):
        send(app)
    assert app.drain().counts == {"complete": 1}
    assert_all_texts_are_bounded(app)


@ALL
def test_a_person_may_cancel_with_any_words(app, words):
    waiting, running = send(app, 2)
    app.cancel_job(job_of(app, Parcel, waiting).id, reason=words)

    def is_cancelled(parcel, _ctx):
        with acting_as(words if isinstance(words, str) else "somebody"):
            app.cancel_job(job_of(app, Parcel, parcel.id).id, reason=words)
        raise ValueError("and failed")

    script.send = is_cancelled

    assert app.drain().counts == {"cancel": 1}
    assert job_of(app, Parcel, waiting).state is JobState.CANCELLED
    assert job_of(app, Parcel, running).state is JobState.CANCELLED
    assert_all_texts_are_bounded(app)


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_a_tag_is_a_text(other):
    with pytest.raises(WrongValueError, match=r"each must be text.*say \[\"nightly"):
        task("texts.tagged", tags=(other,))


@pytest.mark.parametrize("words", TEXTS.values(), ids=TEXTS)
def test_a_tag_may_be_any_text(database_url, clock, words):
    @task("texts.tagged", tags=(words,))
    def tagged() -> None: ...

    app = StateJobs(
        database_url,
        domains=[Domain("d", tasks=[tagged])],
        sources=manual_sources(clock),
    )
    app.create_all()
    with app.session() as session:
        tagged.enqueue(session)
        session.commit()

    assert app.drain().counts == {"complete": 1}
    close_app(app)


class Late(Snooze):
    """Says nothing of what a snooze must say."""

    def __init__(self):
        self.why = "busy"


class Never(Cancel):
    """Has no reason."""

    def __init__(self):
        pass


class Odd(Snooze):
    """Has a delay that is none."""

    def __init__(self):
        super().__init__(seconds=1)
        self.delay = "soon"


@pytest.mark.parametrize("kind", [Late, Never, Odd])
def test_a_request_that_says_nothing_is_a_failed_attempt(app, kind):
    def ask(_parcel, _ctx):
        raise kind

    script.send = ask
    (key,) = send(app)

    assert app.drain().counts == {"fail": 1}
    assert state_of(app, Parcel, key) == "packed"


FOR_EVER = {
    "max": lambda: Snooze(timedelta.max),
    "max-and-more": lambda: Snooze(timedelta.max, hours=1),
    "infinite": lambda: Snooze(seconds=float("inf")),
    "many-hours": lambda: Snooze(hours=10**12),
}


@pytest.mark.parametrize("ask", FOR_EVER.values(), ids=FOR_EVER)
def test_a_snooze_for_ever_is_a_snooze_for_ten_years(app, ask):
    def snooze(_parcel, _ctx):
        raise ask()

    script.send = snooze
    (key,) = send(app)

    assert app.drain().counts == {"snooze": 1}
    assert job_of(app, Parcel, key).run_at == NOON + LONGEST


@pytest.mark.parametrize("seconds", [float("-inf"), float("nan"), -1e12])
def test_a_wait_that_is_none_is_refused(seconds):
    with pytest.raises(ValueError, match=r"positive|NaN"):
        Snooze(seconds=seconds)


TIMES = {
    "for-ever": {"delay": timedelta.max},
    "last": {"run_at": datetime.max.replace(tzinfo=UTC)},
    "last-in-the-west": {
        "run_at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-12)))
    },
}


@pytest.mark.parametrize("when", TIMES.values(), ids=TIMES)
def test_a_job_may_be_enqueued_for_the_end_of_time(app, when):
    send(app, 1)
    with app.session() as session:
        parcel = Parcel()
        session.add(parcel)
        Parcel.send_off.options(**when).enqueue(session, parcel)
        session.commit()
        key = parcel.id

    assert app.drain().counts == {"complete": 1}
    assert NOON + LONGEST <= job_of(app, Parcel, key).run_at <= LAST


def test_the_beginning_of_time_is_now(app):
    with app.session() as session:
        parcel = Parcel()
        session.add(parcel)
        first = datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))
        Parcel.send_off.options(run_at=first).enqueue(session, parcel)
        session.commit()

    assert app.drain().counts == {"complete": 1}


def test_settings_and_retention_may_be_for_ever(app):
    settings = WorkerSettings(shutdown_grace=timedelta.max, poll=timedelta.max)

    assert settings.shutdown_grace == LONGEST
    assert app.prune(older_than=timedelta.max).is_empty
    assert Retention(completed=timedelta.max).completed == timedelta.max


def test_a_timeout_may_be_for_ever(database_url, clock):
    @task("texts.patient", timeout=timedelta.max)
    def patient() -> None: ...

    @task("texts.patient_too", timeout=timedelta.max)
    async def patient_too() -> None: ...

    app = StateJobs(
        database_url,
        domains=[Domain("d", tasks=[patient, patient_too])],
        sources=manual_sources(clock),
    )
    app.create_all()
    with app.session() as session:
        patient.enqueue(session)
        patient_too.enqueue(session)
        session.commit()

    assert app.drain().counts == {"complete": 2}
    close_app(app)
