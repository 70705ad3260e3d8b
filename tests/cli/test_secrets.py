"""No secret leaves the process: one redaction for history, errors, logs, text and JSON."""

import io
import json
import logging

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from statejobs import ConfigurationError, Redaction, StateJobs, acting_as
from statejobs.cli.logs import JsonLines, TextLines
from statejobs.runner.joblog import log_event
from statejobs.sparing import sparing
from statejobs.store.tables import attempts, jobs, transitions
from tests.cli.conftest import Shell
from tests.support.loud import SECRETS, SPOKEN, Letter, login, make_app, silent, stop


@pytest.fixture
def logged():
    """What loggers of statejobs write, in both formats."""
    streams = []
    root = logging.getLogger("statejobs")
    for formatter in (TextLines, JsonLines):
        handler = logging.StreamHandler(io.StringIO())
        handler.setFormatter(formatter(Redaction(hide=("card_number",))))
        root.addHandler(handler)
        streams.append(handler)
    root.setLevel(logging.DEBUG)
    yield lambda: "".join(handler.stream.getvalue() for handler in streams)
    for handler in streams:
        root.removeHandler(handler)
    root.setLevel(logging.NOTSET)


@pytest.fixture
def app(database_url, logged):
    """Every kind of words has been said, in sessions of the user's own."""
    opened = make_app(database_url)
    opened.create_all()
    opened.telemetry.subscribe(log_event)
    with (
        Session(opened.engine) as session,
        acting_as(f"ada password={SECRETS['password']}"),
    ):
        letter = Letter(id="a", says=SPOKEN)
        session.add(letter)
        letter.note(SECRETS)
        letter.submit()
        session.flush()
        login.enqueue(session, words=SECRETS, says=SPOKEN)
        stop.enqueue(session, SPOKEN)
        silent.enqueue(session, words=SECRETS)
        silent.enqueue(session, words=SECRETS)
        session.commit()
    with sparing(redaction=opened.redaction):
        opened.drain()
        logging.getLogger("statejobs.runner").warning("it said: %s", ValueError(SPOKEN))
    opened.cancel_job(5, reason=SPOKEN)
    yield opened
    opened.engine.dispose()


COMMANDS = [
    ["status"],
    ["queue", "list"],
    ["job", "list"],
    *(["job", "show", str(number)] for number in range(1, 6)),
    ["record", "show", "Letter", "a"],
    ["job", "cancel", "4", "--reason", SPOKEN],
    ["job", "retry", "2"],
]


@pytest.mark.parametrize("option", [[], ["--json"]], ids=["text", "json"])
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_command_shows_a_secret(app, words, option):
    shell = Shell("tests.support.loud:make_app", app.engine.url.render_as_string(False))

    result = shell(*words, *option)

    assert result.exit_code == 0, result.output
    assert "hunter2" not in result.output


def test_no_line_of_log_shows_a_secret(app, logged):
    assert "loud.login" in logged()
    assert "it said: " in logged()
    assert "hunter2" not in logged()


def test_history_and_attempts_keep_no_secret_and_arguments_keep_all(app):
    with app.engine.connect() as connection:
        kept = [
            repr(row)
            for table in (attempts, transitions)
            for row in connection.execute(select(table))
        ]
        kept += [str(reason) for reason in connection.scalars(select(jobs.c.reason))]
        args = connection.scalars(
            select(jobs.c.args).where(jobs.c.key == "loud.login")
        ).one()

    assert len(kept) >= 11
    # whoever acts is kept as it was said, and masked when shown
    actor = SECRETS["password"]
    assert "hunter2" not in "".join(kept).replace(f"ada password={actor}", "")
    assert json.loads(args)["words"] == SECRETS


def test_what_waits_is_shown_with_masked_arguments(app):
    shell = Shell("tests.support.loud:make_app", app.engine.url.render_as_string(False))

    shown = shell.json("job", "show", "4")["job"]

    assert shown["args"]["words"] == dict.fromkeys(SECRETS, "***")


def test_an_app_may_show_what_is_hidden_as_a_rule(sqlite_url):
    app = StateJobs(
        sqlite_url, domains=[], redact=Redaction(show=("session_id", "tokenCount"))
    )

    assert app.redaction.text("session_id=5 token_count=7 token=9") == (
        "session_id=5 token_count=7 token=***"
    )
    assert not app.redaction.hides("sessionId")
    assert app.redaction.hides("session_id_2")
    app.engine.dispose()


@pytest.mark.parametrize("redact", ["iban", ["iban", ""], [7]])
def test_what_hides_nothing_or_everything_is_refused(sqlite_url, redact):
    with pytest.raises(ConfigurationError, match="is no list of words"):
        StateJobs(sqlite_url, domains=[], redact=redact)
