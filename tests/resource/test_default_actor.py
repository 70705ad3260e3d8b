"""A job that nobody asked for has the actor that its trigger or task names."""

import pytest

from statejobs import DefinitionError, Trigger, WrongValueError, acting_as, task
from tests.support.invoices import Invoice, InvoiceState, book, moved_app


@pytest.fixture
def app(database_url):
    app, _ = moved_app(database_url)
    with app:
        yield app


@pytest.fixture
def session(app):
    with app.session() as session:
        yield session


def drafts(session, number=1):
    found = [Invoice() for _ in range(number)]
    session.add_all(found)
    session.commit()
    return found


def actors(app):
    return [job.actor for job in app.queries.jobs()]


def by_run_trigger(session):
    (invoice,) = drafts(session)
    invoice.issue()


def by_enqueue(session):
    (invoice,) = drafts(session)
    Invoice.issue.bulk(session, where=Invoice.id == invoice.id)
    Invoice.mail.enqueue(session, invoice)


def by_bulk(session):
    drafts(session)
    Invoice.issue.bulk(session, where=Invoice.state == InvoiceState.DRAFT)


def by_task(session):
    book.enqueue(session, 1)


WAYS = pytest.mark.parametrize(
    ("ask", "default"),
    [
        (by_run_trigger, "system:billing"),
        (by_enqueue, "system:billing"),
        (by_bulk, "system:billing"),
        (by_task, "system:books"),
    ],
)


@WAYS
def test_a_job_that_nobody_asked_for_has_it(app, session, ask, default):
    ask(session)
    session.commit()

    assert actors(app) == [default]


@WAYS
def test_whoever_asks_comes_first(app, session, ask, default):
    with acting_as("user:7"):
        ask(session)
        session.commit()

    assert actors(app) == ["user:7"] != [default]


def test_the_action_and_its_history_act_for_it(app, session):
    by_run_trigger(session)
    session.commit()

    app.drain()

    issued, mailed = app.queries.transitions("Invoice", "1")[1:]
    assert issued["actor"] is None  # nobody fired it
    assert mailed["actor"] == "system:billing"


def test_who_asks_again_for_a_waiting_job_is_its_actor(app, session):
    by_run_trigger(session)
    session.commit()
    with acting_as("user:7"):
        Invoice.mail.enqueue(session, session.get_one(Invoice, 1))
    session.commit()
    assert actors(app) == ["user:7"]

    Invoice.mail.enqueue(session, session.get_one(Invoice, 1))
    session.commit()

    assert actors(app) == ["system:billing"]


@pytest.mark.parametrize("declare", [Trigger.on_demand, task])
def test_what_names_nobody_is_refused(declare):
    with pytest.raises(DefinitionError, match=r"default_actor='' names nobody"):
        declare("a.b", default_actor="")
    with pytest.raises(WrongValueError, match="default_actor must be text, not 7"):
        declare("a.b", default_actor=7)
