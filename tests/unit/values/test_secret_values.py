"""A secret is hidden whole, however it is written behind its name."""

import time

import pytest

from statejobs.values.redaction import DEFAULT, Redaction
from statejobs.values.shown import shown_row

TEXTS = [
    "tokens=['hunter2']",
    "tokens=['a', 'hunter2'], id=7",
    "{'tokens': ['a', {'b': 'hunter2'}]}",
    '{"credentials": {"user": "u", "value": "hunter2"}}',
    '{\\"credentials\\": {\\"user\\": \\"u\\", \\"value\\": \\"hunter2\\"}}',
    r"{\"password\": \"a\\\"hunter2\"}",
    "credentials=('ada', 'hunter2')",
    "credentials = ('ada', (')', 'hunter2'))",
    "password=f'hunter2'",
    'password=rb"hunter2"',
    "password='''a'\nhunter2'''",
    'password="""hunter2"""',
    "tokens=['''a'\nhunter2''']",
    '(token := "hunter2").index("x")',
    'if password == "hunter2":',
    'if password != "hunter2":',
    "{:password => 'hunter2'}",
    'password=os.getenv("X", "hunter2")',
    'password=os.environ["X"] or "hunter2"',
    'password: str = "hunter2"',
    'password: str | None = "hunter2"',
    'password="a" + "hunter2"',
    'password="a" "hunter2"',
    "password='%s' % ('hunter2',)",
    "password=''.join(['hunter2'])",
    'password=x if x else "hunter2"',
    'os.environ["DB_PASSWORD"] = "hunter2"',
    'os.getenv("DB_PASSWORD", "hunter2")',
    "headers [(b'authorization', b'Bearer hunter2')]",
    "Cookie: theme=dark; sid=hunter2",
    "Set-Cookie: theme=dark; sid=hunter2; HttpOnly",
    'curl -H "Cookie: theme=dark; sid=hunter2" url',
    "Authorization: AWS4-HMAC-SHA256 Credential=A/x, SignedHeaders=host, Signature=hunter2",
    'Authorization: Digest username="ada", realm="x", response="hunter2"',
    "Proxy-Authorization: NTLM a, hunter2",
    "authorization=Digest username='ada', response='hunter2'",
    "tokens=['hunter2",
    "credentials={'a': [1, 'hunter2'",
    "token=call(1, 'hunter2'",
]


@pytest.mark.parametrize("text", TEXTS)
def test_no_form_of_a_value_is_shown(text):
    assert "hunter2" not in DEFAULT.text(f"bad settings {text}")
    assert "hunter2" not in DEFAULT.code(f"    {text}")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("call(tokens=['x'], amount=5)", "call(tokens=***, amount=5)"),
        ("call(password=f'x', amount=5)", "call(password=***, amount=5)"),
        ('{"credentials": {"a": "x"}, "id": 7}', '{"credentials": ***, "id": 7}'),
        ('(token := "x").index("y")', '(token := ***).index("y")'),
        ('d["password"] = "x"; run()', 'd["password"] = ***; run()'),
        ('curl -H "Cookie: a=x; b=y" url', 'curl -H "Cookie: ***" url'),
        ("Cookie: a=x; b=y\nHost: h", "Cookie: ***\nHost: h"),
        (
            "missing fields ['id', 'password', 'email']",
            "missing fields ['id', 'password', 'email']",
        ),
        (
            "INSERT INTO users (id, password) VALUES",
            "INSERT INTO users (id, password) VALUES",
        ),
        ("unexpected token at (1, 2)", "unexpected token at (1, 2)"),
    ],
)
def test_what_is_no_part_of_the_value_is_shown(text, shown):
    assert DEFAULT.text(text) == shown
    assert DEFAULT.text(shown) == shown


def test_lines_behind_a_session_are_shown():
    text = "    with app.session() as session:\n        order.pay(\n  File 'x', line 2"

    assert DEFAULT.text(text).endswith("\n  File 'x', line 2")


def test_a_whole_name_is_shown_in_a_pair_too():
    own = Redaction(show=("token_count",))

    assert own.text("get('token_count', '7')") == "get('token_count', '7')"
    assert own.text("get('token_counts', '7')") == "get('token_counts', ***)"


@pytest.mark.parametrize("name", ["key", "queue", "owner", "node", "error_type"])
def test_names_that_somebody_wrote_into_rows_are_masked(name):
    assert shown_row({name: "x password=hunter2"}, DEFAULT) == {name: "x password=***"}


@pytest.mark.parametrize(
    "part",
    [
        "token=[",
        "token=[\n",
        "token=(]",
        "token='",
        "token=[\"'",
        "token=f(",
        'token="a" ',
        "token='''",
        'token=\\"',
        "token=[\\'",
        'token=[\\\\"',
        "token=\\",
        "token=a + ",
        "token=a=",
        "token = ",
        "('token', '",
        "('",
        "Cookie: ",
        "Cookie: '",
        '"Cookie: a\n',
        "Authorization: [",
        "token:=",
        "token]",
        "[" * 50,
    ],
    ids=repr,
)
def test_no_text_takes_seconds(part):
    text = part * (600_000 // len(part))
    began = time.process_time()

    DEFAULT.text(text[:131_072])
    DEFAULT.code(text[:131_072])

    assert time.process_time() - began < 2
