# pyright: basic
"""What a typed user does wrong is seen by the type checker, before anything runs."""

import json
import re
import subprocess
import sys
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from statejobs import ChunkContext, JobContext, StateJobsError, utcnow
from tests.typing.misuses import MISUSES

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

HEAD = """
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from enum import StrEnum
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from api import Order, OrderState, S, count, daily, declare, fetch, mail, tell
from statejobs import (
    ActorCodec, AsyncJobContext, Change, ChunkContext, Defaults, Domain, Event, JobContext,
    JobState, Stale, StatefulResource, StateJobs, Trigger, Unique, ago, everything, guard, stamp,
    state_column, task, transition,
)
from statejobs.events import JobEnded, JobStale, LeasesLost

class Base(DeclarativeBase): ...

class Parent(StatefulResource, Base):
    __abstract__ = True
    __tablename__ = "wrong"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[OrderState] = state_column(OrderState, initial=S.DRAFT)

class Other(StrEnum):
    SENT = "sent"

charge = Trigger.on_demand("order.other")
"""
FUNCTION = """
def misuse(
    order: Order, session: Session, ctx: JobContext, chunk: ChunkContext, jobs: StateJobs
) -> None:
"""


def function_of(misuse, name="misuse"):
    return FUNCTION.replace("misuse", name) + indent(misuse.code, "    ") + "\n"


FUNCTIONS = [function_of(one, f"misuse_{place}") for place, one in enumerate(MISUSES)]


@pytest.fixture
def module(tmp_path):
    """A copy of the user's module, and one beside it that misuses it."""
    (tmp_path / "api.py").write_text((HERE / "api.py").read_text())
    path = tmp_path / "misuse.py"
    path.write_text("".join([HEAD, *FUNCTIONS]))
    return path


def check(command, *, folder):
    """Run a type checker; return its exit code and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "MYPYPATH": str(ROOT), "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def mypy(*files, folder):
    options = [
        "--strict",
        "--explicit-package-bases",
        f"--cache-dir={ROOT / '.mypy_cache'}",
    ]
    return check(["mypy", *options, *map(str, files)], folder=folder)


def pyright(*files, folder):
    unused = dict.fromkeys(["reportUnusedClass", "reportUnusedFunction"], False)
    paths = [str(ROOT), str(folder)]
    options = {"typeCheckingMode": "strict", "extraPaths": paths, **unused}
    (folder / "pyrightconfig.json").write_text(json.dumps(options))
    code, text = check(
        ["pyright", "--pythonpath", sys.executable, *files], folder=folder
    )
    if "error" not in text and "0 errors" not in text:
        pytest.skip(f"pyright does not run here: {text[-200:]}")
    return code, text


def seen(text):
    """The misuses in whose lines the checker saw an error."""
    lines = {
        int(n) for n in re.findall(r"misuse\.py:(\d+)(?::\d+)?(?: -)?:? error", text)
    }
    found, start = set(), HEAD.count("\n")
    for misuse, function in zip(MISUSES, FUNCTIONS, strict=True):
        end = start + function.count("\n")
        if lines & set(range(start + 1, end + 1)):
            found.add(misuse)
        start = end
    return found


def seen_by(name):
    return {misuse for misuse in MISUSES if name in misuse.seen_by}


def is_refused(misuse):
    """Whether statejobs, or Python, refuses the misuse where it stands."""
    names = {}
    exec(HEAD, names)
    exec(function_of(misuse), names)
    order, session = names["Order"](total=1), Session()
    job: Any = None
    ctx = JobContext(session=session, job=job, now=utcnow())
    chunk = ChunkContext(session=session, records=[order], jobs=[job], now=utcnow())
    try:
        with names["declare"]() as app:
            names["misuse"](order, session, ctx, chunk, app)
    except (StateJobsError, TypeError, AttributeError):
        return True
    except SQLAlchemyError:  # no refusal: the session of this test has no database
        return False
    return False


@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_honest_code_passes(checker, tmp_path):
    (tmp_path / "honest.py").write_text((HERE / "honest.py").read_text())

    code, text = checker("honest.py", folder=tmp_path)

    assert code == 0, text


def test_honest_code_runs():
    names: dict[str, Any] = {"__name__": "honest"}

    exec((HERE / "honest.py").read_text(), names)

    doc = names["Doc"]()
    assert doc.finish().lose().again() is doc
    assert names["Doc"].lose.source == ("draft", "done")
    with names["make_jobs"]() as jobs:
        assert jobs.queues


@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_the_module_of_a_typed_user_passes(checker, module):
    code, text = checker("api.py", folder=module.parent)

    assert code == 0, text


@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_a_misuse_is_seen_by_the_checkers_that_it_names(checker, module):
    _, text = checker("misuse.py", folder=module.parent)

    assert {m.what for m in seen(text)} == {
        m.what for m in seen_by(checker.__name__)
    }, text


def test_a_misuse_is_refused_when_it_runs_if_it_says_so(module, monkeypatch):
    monkeypatch.syspath_prepend(module.parent)
    monkeypatch.chdir(module.parent)
    refused = {misuse for misuse in MISUSES if is_refused(misuse)}
    monkeypatch.delitem(sys.modules, "api")

    assert {m.what for m in refused} == {m.what for m in seen_by("running")}


def test_each_misuse_has_a_name_of_its_own():
    assert len({misuse.what for misuse in MISUSES}) == len(MISUSES) >= 60
