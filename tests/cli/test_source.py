"""Which app: flag, then environment, then file."""

import grp
import os
import pwd
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statejobs import StateJobs
from statejobs.cli.problems import Problem
from statejobs.cli.source import APP_VARIABLE, find_source, load_app
from tests.support.worker_app import make_app

names = st.none() | st.sampled_from(["shop:jobs", "a.b:make", "post:app"])


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with a directory in it."""
    root = tmp_path_factory.mktemp("project")
    (root / "deep").mkdir()
    return root


@given(flag=names, environment=names, file=names)
def test_flag_wins_over_environment_over_file(project, flag, environment, file):
    table = f'[tool.statejobs]\napp = "{file}"\n' if file else "[tool.other]\n"
    (project / "pyproject.toml").write_text(table)
    environ = {APP_VARIABLE: environment} if environment else {}
    expected = flag or environment or file

    if expected is None:
        with pytest.raises(Problem) as caught:
            find_source(flag, environ, project / "deep")
        for tried in ("--app", APP_VARIABLE, str(project / "pyproject.toml")):
            assert tried in caught.value.why
    else:
        assert find_source(flag, environ, project / "deep").spec == expected


@pytest.mark.parametrize(
    ("line", "hint"),
    [('ap = "shop:jobs"', "did you mean 'app'?"), ("workers = 4", "known: app")],
)
def test_an_unknown_setting_of_a_file_is_an_error(tmp_path, line, hint):
    (tmp_path / "pyproject.toml").write_text(f"[tool.statejobs]\n{line}\n")

    with pytest.raises(Problem) as caught:
        find_source(None, {}, tmp_path)

    assert hint in caught.value.what


def test_the_directory_of_the_file_is_searched_for_the_app(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text(
        '[tool.statejobs]\napp = "from_file:make"\n'
    )
    (tmp_path / "from_file.py").write_text(
        "from tests.support.worker_app import make_app as make"
    )
    (tmp_path / "deep").mkdir()
    monkeypatch.setattr("sys.path", list(sys.path))

    source = find_source(None, {}, tmp_path / "deep")
    app = load_app(source, f"sqlite:///{tmp_path}/x.db", tmp_path / "deep")

    assert isinstance(app, StateJobs)


@pytest.fixture
def nested(tmp_path):
    """A directory whose parent has a file that names an app."""
    (tmp_path / "pyproject.toml").write_text('[tool.statejobs]\napp = "shop:jobs"\n')
    tmp_path.chmod(0o755)
    deep = tmp_path / "deep"
    deep.mkdir()
    return deep


@pytest.mark.parametrize("what", [".", "pyproject.toml"])
@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_a_file_above_that_others_may_write_is_not_used(nested, what, mode):
    (nested.parent / what).chmod(mode)

    with pytest.raises(Problem) as caught:
        find_source(None, {}, nested)

    assert str(nested.parent / "pyproject.toml") in caught.value.what
    assert "say --app" in caught.value.fix
    assert find_source(None, {}, nested.parent).spec == "shop:jobs"
    assert find_source("other:jobs", {}, nested).spec == "other:jobs"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
@pytest.mark.parametrize("what", [".", "pyproject.toml"])
def test_a_file_above_that_is_somebody_elses_is_not_used(nested, what):
    os.chown(nested.parent / what, 65534, 65534)

    with pytest.raises(Problem):
        find_source(None, {}, nested)

    assert find_source(None, {}, nested.parent).spec == "shop:jobs"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_group_of_others_may_not_write_a_file_above(nested):
    os.chown(nested.parent / "pyproject.toml", 0, 65534)
    (nested.parent / "pyproject.toml").chmod(0o664)

    with pytest.raises(Problem):
        find_source(None, {}, nested)


def test_the_group_of_the_user_alone_may_write_it(nested):
    group = grp.getgrgid(os.getegid())
    if group.gr_name != pwd.getpwuid(os.geteuid()).pw_name or group.gr_mem:
        pytest.skip("this user has no group of his own")
    (nested.parent / "pyproject.toml").chmod(0o664)

    assert find_source(None, {}, nested).spec == "shop:jobs"


def test_a_function_is_told_the_database(tmp_path):
    url = f"sqlite:///{tmp_path}/told.db"

    app = load(f"{make_app.__module__}:make_app", url)

    assert app.engine.url.database == f"{tmp_path}/told.db"


@pytest.mark.parametrize(
    ("body", "attribute", "database", "message"),
    [
        ("jobs = 7", "jobs", None, "is an int, not an app"),
        ("def make(): return 7", "make", None, "returned an int"),
        (
            "def make(): return APP",
            "make",
            "sqlite:///other.db",
            "cannot be told which database",
        ),
        ("def make(database): return APP", "make", None, "needs database"),
        ("def make(region): return APP", "make", None, "needs region"),
        ("jobs = APP", "jobs", "sqlite:///other.db", "has its database already"),
        ("jobs = APP", "jbs", None, "did you mean 'jobs'?"),
        ("jobs = APP", "", None, "names a module"),
        ("1 / 0", "jobs", None, "ZeroDivisionError: division by zero"),
        ("import not_installed", "jobs", None, "No module named 'not_installed'"),
        ("jobs = (", "jobs", None, "SyntaxError"),
    ],
)
def test_what_is_no_app_is_explained(
    tmp_path, monkeypatch, body, attribute, *, database, message
):
    name = f"broken_{abs(hash((body, attribute)))}"
    setup = (
        "" if body == "jobs = (" else "from tests.support.worker_app import make_app\n"
    )
    setup += (
        "" if "APP" not in body else f'APP = make_app("sqlite:///{tmp_path}/own.db")\n'
    )
    (tmp_path / f"{name}.py").write_text(setup + body)
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(Problem) as caught:
        load(f"{name}:{attribute}", database)

    assert message in caught.value.what
    assert caught.value.code == 2


def test_an_app_accepts_its_own_database_named_again(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/own.db"
    (tmp_path / "named_again.py").write_text(
        f'from tests.support.worker_app import make_app\njobs = make_app("{url}")'
    )
    monkeypatch.syspath_prepend(tmp_path)

    assert load("named_again:jobs", url).engine.url.database == f"{tmp_path}/own.db"


@pytest.mark.parametrize("spec", ["shop.py:jobs", "./shop:jobs", ":jobs"])
def test_a_path_is_not_a_module(spec):
    with pytest.raises(Problem, match="does not name an app"):
        load(spec)


def load(spec, database=None):
    """Load what `--app` names."""
    directory = Path.cwd()
    return load_app(find_source(spec, {}, directory), database, directory)
