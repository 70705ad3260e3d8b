"""Workers that serve some domains and queues of an app, and what is said of the others."""

import logging

import pytest
from sqlalchemy import update

from statejobs import ConfigurationError, Domain, StateJobs, WrongValueError, task
from statejobs.people.jobs import job_page
from statejobs.people.status import status_of
from statejobs.store.tables import jobs
from tests.support.processes import eventually


@task("shop.count")
def count() -> None: ...


@task("mail.send", aliases=["mail.old"], queue="mail")
def send() -> None: ...


@task("mail.sort")
def sort() -> None: ...


SHOP = Domain("shop", tasks=[count])
MAIL = Domain("mail", tasks=[send, sort], queues={"mail": 2})


@pytest.fixture
def app(database_url):
    """An app of two domains, both of which use the queue `default`."""
    app = StateJobs(database_url, domains=[SHOP, MAIL], queues={"default": 3})
    app.create_all()
    yield app
    app.close()


@pytest.fixture
def enqueued(app):
    """One job of each task: name → id."""
    with app.session() as session:
        found = {one.key: one.enqueue(session).job_id for one in (count, sort, send)}
        session.commit()
    return found


@pytest.fixture
def serving(app):
    """Starts a worker of the app; it stops after the test."""
    started = []

    def start(*args, **options):
        worker = app.worker(*args, **options)
        worker.start()
        started.append(worker)
        return worker

    yield start
    for worker in started:
        worker.stop()


def states(app):
    return {job.key: str(job.state) for job in app.queries.jobs()}


@pytest.mark.parametrize("domain", [SHOP, "shop"], ids=["itself", "by name"])
def test_a_worker_of_a_domain_claims_only_its_jobs(app, enqueued, serving, domain):
    serving(domains=[domain])
    eventually(lambda: states(app)["shop.count"] == "completed")
    with app.session() as session:
        count.enqueue(session)
        session.commit()
    eventually(lambda: app.queries.counts()["default"].get("completed") == 2)

    assert states(app) == {
        "shop.count": "completed",
        "mail.sort": "queued",
        "mail.send": "queued",
    }


def test_a_worker_of_a_domain_claims_what_is_stored_under_a_former_key(
    app, enqueued, serving
):
    with app.engine.begin() as connection:
        change = update(jobs).where(jobs.c.key == "mail.send").values(key="mail.old")
        connection.execute(change)

    serving(domains=["mail"])

    eventually(lambda: states(app).get("mail.old") == "completed")
    assert states(app)["shop.count"] == "queued"


def test_workers_of_all_domains_leave_nothing(app, enqueued, serving):
    serving(domains=["shop"])
    serving(domains=["mail"])

    eventually(lambda: set(states(app).values()) == {"completed"})


def test_a_job_that_no_worker_of_its_queue_claims_says_so(app, enqueued, serving):
    serving(domains=["shop"])

    page = job_page(app.desk, app.queries.job(enqueued["mail.sort"]))

    assert page.obstacle == (
        "no worker of queue 'default' claims jobs of 'mail.sort': "
        "start one of its domain, or without --domain"
    )
    serving()
    page = job_page(app.desk, app.queries.job(enqueued["mail.sort"]))
    assert page.obstacle is None


@pytest.mark.parametrize(
    ("domains", "lines"),
    [
        (
            ["shpo"],
            [
                "no domain 'shpo' in this app; did you mean 'shop'?",
                "  why: it is not in the `domains` of the app",
                "  fix: name one that is, or add it there",
            ],
        ),
        (
            [],
            [
                "no domain is named",
                "  why: such a worker would claim nothing",
                "  fix: leave domains out to serve all of them",
            ],
        ),
        ([7], ["worker(domains=…): each of them must be text, not 7; say 'shop'"]),
    ],
)
def test_a_domain_that_is_not_in_the_app_is_refused(app, domains, lines):
    with pytest.raises((ConfigurationError, WrongValueError)) as refused:
        app.worker(domains=domains)

    assert str(refused.value).splitlines() == lines


def test_domains_by_their_name_alone_are_one_thing_where_several_may_be(app):
    with pytest.raises(WrongValueError, match=r"worker\(domains=…\)"):
        app.worker(domains="shop")


# Queues that nobody serves -----------------------------------------------------------------------


def test_a_worker_names_the_queues_that_nobody_serves_when_it_is_made(app, caplog):
    with caplog.at_level(logging.WARNING):
        app.worker({"default": 1})

    said = "no worker that lives serves queue 'mail', nor will this one: its jobs wait"
    assert [one.getMessage() for one in caplog.records] == [said]


def test_a_worker_is_silent_where_others_serve_the_rest(app, serving, caplog):
    serving({"mail": 1, "default": 1})

    with caplog.at_level(logging.WARNING):
        app.worker({"default": 1})

    assert caplog.records == []


def test_the_page_of_the_app_names_the_queues_that_nobody_serves(
    app, enqueued, serving
):
    with app.engine.begin() as connection:
        change = update(jobs).where(jobs.c.key == "mail.sort").values(queue="elsewhere")
        connection.execute(change)
    assert status_of(app.desk, "app").unserved == ("default", "mail", "elsewhere")

    serving({"default": 1})
    assert status_of(app.desk, "app").unserved == ("mail", "elsewhere")

    app.drain(queues=["mail"])
    serving({"mail": 1})
    assert status_of(app.desk, "app").unserved == ("elsewhere",)
