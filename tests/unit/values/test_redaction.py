"""What is hidden by its name, and what is shown."""

import time

import pytest

from statejobs.errors import ConfigurationError
from statejobs.values.redaction import (
    DEFAULT,
    Redaction,
    redaction_of,
    strictest,
    without_passwords,
)

OWN = Redaction(hide=("iban", "card_number"), show=("token_count", "sessionType"))


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "dbPasswd",
        "PWD",
        "passphrase",
        "pass_phrase",
        "client_secret",
        "accessToken",
        "api_key",
        "apiKey",
        "x-api-key",
        "access_key",
        "AWS_ACCESS_KEY_ID",
        "private_key",
        "privateKey",
        "signing-key",
        "encryptionKey",
        "credential",
        "credentials",
        "session",
        "session_id",
        "sessionid",
        "userSession",
        "Authorization",
        "cookie",
        "Set-Cookie",
    ],
)
def test_the_usual_names_are_hidden(name):
    assert DEFAULT.hides(name)
    assert "hunter2" not in DEFAULT.text(f"{name}=hunter2")
    assert "hunter2" not in DEFAULT.text(f'{{"{name}": "hunter2"}}')
    assert "hunter2" not in DEFAULT.text(f"tool --{name} hunter2 --verbose")


@pytest.mark.parametrize(
    "name",
    [
        "amount",
        "key",
        "idempotency_key",
        "secretary",
        "possession",
        "obsession",
        "pass",
        "id",
    ],
)
def test_other_names_are_shown(name):
    assert not DEFAULT.hides(name)
    assert DEFAULT.text(f"{name}=5") == f"{name}=5"


@pytest.mark.parametrize(
    "name", ["iban", "customerIban", "card_number", "cardNumber", "CARD-NUMBER"]
)
def test_words_of_an_app_are_hidden_however_they_are_written(name):
    assert OWN.hides(name)
    assert not DEFAULT.hides(name)
    assert OWN.text(f"{name}: hunter2") == f"{name}: ***"


@pytest.mark.parametrize(
    "name", ["token_count", "tokenCount", "TOKEN-COUNT", "session_type"]
)
def test_an_app_may_show_a_whole_name(name):
    assert not OWN.hides(name)
    assert OWN.text(f"{name}=7, {name}s=7") == f"{name}=7, {name}s=***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("psql --password hunter2 -h db", "psql --password *** -h db"),
        ("tool --db-password=hunter2 x", "tool --db-password=*** x"),
        ("tool -storepass x --token 'hunter 2' y", "tool -storepass x --token *** y"),
        ("tool --password --verbose", "tool --password --verbose"),
        ("a - token of thanks", "a - token of thanks"),
        ("Cookie: a=hunter2; b", "Cookie: ***"),
        ("postgresql+psycopg://u:p/w@x@db/n", "postgresql+psycopg://u:***@db/n"),
        ("connection to host 'w@db' failed", "connection to host '***@db' failed"),
        ('translate host name "w@db" to', 'translate host name "***@db" to'),
        (
            "k -----BEGIN RSA PRIVATE KEY-----\nMII-x\n-----END RSA PRIVATE KEY----- k",
            "k -----BEGIN RSA PRIVATE KEY-----***-----END RSA PRIVATE KEY----- k",
        ),
        ("not bound to a Session; attribute", "not bound to a Session; attribute"),
    ],
)
def test_texts_are_masked(text, shown):
    assert DEFAULT.text(text) == shown
    assert DEFAULT.text(shown) == shown


def test_lines_of_code_keep_their_sessions():
    line = "    with Session(engine) as session:\n        session = begin(session=session)\n"

    assert DEFAULT.code(line) == line
    assert (
        DEFAULT.code("    connect(password='hunter2')") == "    connect(password=***)"
    )


def test_what_is_ours_loses_only_passwords_of_addresses():
    text = (
        "Order.session_token: no trigger; postgresql://u:p@h/n host=h password=w user=u"
    )

    assert without_passwords(text) == (
        "Order.session_token: no trigger; postgresql://u:***@h/n host=h password=*** user=u"
    )


def test_two_apps_of_one_resource_hide_what_one_of_them_hides():
    both = strictest(
        frozenset({OWN, Redaction(hide=("pin",), show=("token_count", "a"))})
    )

    assert both.hides("iban")
    assert both.hides("pin")
    assert not both.hides("token_count")
    assert both.hides("session_type")
    assert strictest(frozenset()) is DEFAULT
    assert redaction_of(None) is DEFAULT
    assert redaction_of(["pin"]).hide == ("pin",)


@pytest.mark.parametrize("words", ["iban", ("",), (" ",), (7,), ("--",)], ids=repr)
def test_what_would_hide_all_or_nothing_is_refused(words):
    with pytest.raises(ConfigurationError, match="no list of words"):
        Redaction(hide=words)
    with pytest.raises(ConfigurationError, match="no list of words"):
        Redaction(show=words)


@pytest.mark.parametrize(
    "part",
    [
        "x",
        "-",
        "--",
        "-a",
        "-----BEGIN PRIVATE KEY-----",
        "session ",
        "password=",
        "://a:",
        "\\",
        "sqlite+",
        "host '",
        "--token ",
        "card_",
        "iban iban",
        "a@",
        "=",
    ],
    ids=repr,
)
def test_no_text_takes_seconds(part):
    text = part * (65_000 // len(part))
    began = time.process_time()

    OWN.text(text)

    assert time.process_time() - began < 1
