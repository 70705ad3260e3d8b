"""Nothing that others chose steers a terminal or forges a line of the log, whatever the command."""

import logging
import re

import pytest
from sqlalchemy import text

from statejobs import acting_as
from statejobs.cli.logs import JsonLines, TextLines
from statejobs.runner.joblog import log_event
from statejobs.sparing import sparing
from statejobs.values.visible import visible, visible_line
from tests.cli.conftest import Shell
from tests.cli.test_output import in_terminal
from tests.support.escapes import ALL, CORPUS, acting_characters
from tests.support.loud import Letter, login, make_app, silent, stop

STORABLE = ALL.replace("\ud800", "")


def fill(app):
    """Say it all, wherever somebody else may choose words."""
    app.create_all()
    with app.session() as session, acting_as(STORABLE):
        letter = Letter(id=STORABLE, says=STORABLE)
        session.add(letter)
        letter.note({STORABLE: STORABLE})
        letter.submit()
        session.flush()
        login.enqueue(session, words={STORABLE: STORABLE}, says=STORABLE)
        stop.enqueue(session, STORABLE)
        silent.enqueue(session, words={STORABLE: STORABLE})
        session.commit()
    app.drain()
    with app.engine.begin() as connection:
        # past us, as anybody may who can write there
        connection.execute(
            text("UPDATE statejobs_jobs SET queue = :words, key = :words WHERE id = 4"),
            {"words": STORABLE[:90]},
        )


@pytest.fixture
def app(database_url):
    opened = make_app(database_url)
    fill(opened)
    yield opened
    opened.engine.dispose()


COMMANDS = {
    "status": ["status"],
    "queues": ["queue", "list"],
    "jobs": ["job", "list"],
    "letter": ["job", "show", "1"],
    "login": ["job", "show", "2"],
    "stopped": ["job", "show", "3"],
    "foreign": ["job", "show", "4"],
    "record": ["record", "show", "Letter", STORABLE],
    "cancel": ["job", "cancel", "4", "--reason", STORABLE],
    "no-command": [STORABLE],
    "no-option": [f"--{STORABLE}"],
    "no-number": ["job", "show", STORABLE],
    "no-queue": ["job", "list", "--queue", f"x{STORABLE}"],
    "no-record": ["record", "show", "Letter", f"x{STORABLE}"],
    "no-resource": ["diagram", STORABLE],
    "no-app": ["status", "--app", f"{STORABLE}:jobs"],
    "no-database": ["status", "--database", f"sqlite:////no/{STORABLE}"],
}


@pytest.mark.parametrize("option", [[], ["--json"]], ids=["text", "json"])
@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_no_command_prints_a_character_that_acts(app, words, option):
    shell = Shell("tests.support.loud:make_app", app.engine.url.render_as_string(False))

    result = shell(*words, *option)

    assert result.output.strip()
    assert acting_characters(result.output) == []


@pytest.mark.parametrize("words", [["job", "list"], ["job", "show", "1"], ["status"]])
def test_a_terminal_is_not_steered(sqlite_url, words):
    opened = make_app(sqlite_url)
    fill(opened)
    opened.engine.dispose()
    environ = {
        "STATEJOBS_DATABASE": sqlite_url,
        "STATEJOBS_APP": "tests.support.loud:make_app",
    }

    written = in_terminal(words, environ)

    assert "letter.send" in written or "Letter" in written
    assert acting_characters(written) == []


@pytest.mark.parametrize("name", CORPUS)
def test_each_is_shown_as_text(name):
    words = CORPUS[name]

    assert acting_characters(visible(words)) == []
    assert acting_characters(visible_line(words)) == []
    assert "\n" not in visible_line(words)
    assert visible(visible(words)) == visible(words)


def test_what_acts_not_is_left_as_it_is():
    words = "Zoë paid 5 €\t\U0001f468\u200d\U0001f469\u200d\U0001f467 नमस्ते\n次"

    assert visible(words) == words


LINE = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z [A-Z]+ \d+ statejobs[.\w]*: ")


def log_lines(app, formatter, caplog):
    """Every line that a worker would write about jobs whose words are hostile."""
    caplog.set_level(logging.DEBUG, "statejobs")
    app.telemetry.subscribe(log_event)
    with app.session() as session:
        login.enqueue(session, words={"a": "b"}, says=STORABLE)
        stop.enqueue(session, STORABLE)
        session.commit()
    with sparing():
        app.drain()
        log = logging.getLogger("statejobs.runner")
        log.warning("it said: %s", STORABLE)
        try:
            raise ValueError(ALL)
        except ValueError:
            log.exception("and it raised", extra={"said": ALL})
    return [formatter.format(record) for record in caplog.records]


def test_no_line_of_text_is_forged_or_steers(app, caplog):
    lines = log_lines(app, TextLines(), caplog)

    assert any("loud.login" in line for line in lines)
    assert any("Traceback" in line for line in lines)
    for entry in lines:
        head, *further = entry.split("\n")
        assert LINE.match(head)
        assert all(line.startswith("  ") for line in further)
        assert acting_characters(entry) == []


def test_a_handler_of_the_users_gets_messages_of_one_line(app, caplog):
    log_lines(app, TextLines(), caplog)

    for record in caplog.records:
        if record.name.startswith("statejobs"):
            assert acting_characters(record.getMessage()) == []
            assert "\n" not in record.getMessage()


def test_a_line_of_json_is_one_line_that_steers_nothing(app, caplog):
    for entry in log_lines(app, JsonLines(), caplog):
        assert "\n" not in entry
        assert acting_characters(entry) == []


def test_no_message_forges_a_section_of_what_is_shown(app):
    with app.session() as session:
        login.enqueue(
            session, words={"a": "b"}, says="no\nNext\nstatejobs job retry 99"
        )
        session.commit()
    app.drain()
    shell = Shell("tests.support.loud:make_app", app.engine.url.render_as_string(False))

    (job,) = app.queries.jobs(limit=1)
    lines = shell("job", "show", str(job.id)).stdout.splitlines()

    assert lines.count("Next") == 1
    assert "  statejobs job retry 99" in lines
    assert "statejobs job retry 99" not in lines
