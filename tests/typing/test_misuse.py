# pyright: basic
"""What a typed user does wrong is seen by the type checker, before anything runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

# Each line is wrong, and the only thing wrong with it is its comment.
MISUSES = """
order.submit(cupon="X")  # wrong keyword
order.submit("X")  # keyword-only
order.submit(coupon=7)  # wrong type
order.cancel()  # missing argument
order.sumbit()  # misspelt transition
order.state = "queued"  # text for a state
order.submit.kann()  # misspelt question
Order.process_payment.enqueue(session)  # enqueue without a record
Order.process_payment.enqueue(session, 42)  # enqueue of something else
Order.process_payment.enqueue(session, order, "x")  # an argument that the action lacks
Order.send_invoice.enqueue(session, order)  # enqueue without an argument
Order.send_invoice.enqueue(session, order, 7)  # enqueue with a wrong type
Order.send_invoice.enqueue(session, order, "x", copies="two")  # enqueue with a wrong keyword
Order.send_invoice.options(priority="high")  # wrong option
Order.score_all.enqueue(session, 42)  # a chunk action, of something else
Order.score_all.enqueue(session, order, 1)  # an argument that no chunk action has
Order.score_all([session], chunk)  # a list of something else
Order.score_all([order], ctx)  # the context of one job for a call
chunk.fail(order)  # a failure without an error
chunk.snooze(order, 5)  # a wait without a unit
Trigger.on_demand("order.rate", chunk="many")  # a size that is no number
order.process_payment()  # an action without its context
order.process_payment(session)  # another thing for a context
state_column(OrderState, initial="draft")  # text for a state of the column
Trigger.on_demand()  # a trigger without a key
Trigger.on_demand("order.ship", max_attempts="five")  # an option of another type
transition(S.DRAFT, "queued")  # text for a target
daily("2026-01-01")  # a call with a wrong type
daily.enqueue(session)  # a task without its argument
daily.enqueue(session, "2026-01-01")  # a task's argument of another type
daily.enqueue(session, date(2026, 1, 1), copys=2)  # a task's argument misspelt
daily.enqueue(session, date(2026, 1, 1), 2)  # a task's keyword-only argument by position
daily.enqueue(date(2026, 1, 1))  # a task without a session
daily.options(delay=5)  # an option of a task's job without a unit
daily.options(prio=5)  # an option misspelt
daily.options(priority=1).enqueue(session, 7)  # the argument is checked behind options
mail.enqueue(session, ctx, "x")  # the context is no argument of a job
mail("x")  # a call without the context
fetch.enqueue(session, 7)  # an async task's argument of another type
mail.on_discard(lambda session, reason: None)  # a hook without the task's argument
task()  # a task without a key
task("report.x", max_attempts="five")  # a task's option of another type
task("report.x", args={})  # an option of triggers only
Domain("d", tasks=[tell])  # a function that is no task
jobs.retry_job_async("1")  # another type for what is awaited
jobs.cancel_job_async(1, why="")  # a wrong keyword of what is awaited
jobs.queries.jobs_async(5)  # keyword-only, of a query that is awaited
jobs.async_session(session)  # a session for an engine
""".strip().splitlines()

NEW_LINE = "\n    "
MODULE = f"""
from datetime import date
from sqlalchemy.orm import Session
from api import Order, OrderState, S, daily, fetch, mail, tell
from statejobs import ChunkContext, Domain, JobContext, StateJobs, Trigger
from statejobs import state_column, task, transition

def misuse(
    order: Order, session: Session, ctx: JobContext, chunk: ChunkContext, jobs: StateJobs
) -> None:
    {NEW_LINE.join(MISUSES)}
"""


@pytest.fixture
def module(tmp_path):
    """A copy of the user's module, and one beside it that misuses it, from its line 11 on."""
    (tmp_path / "api.py").write_text((HERE / "api.py").read_text())
    path = tmp_path / "misuse.py"
    path.write_text(MODULE)
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
    options = ["--strict", "--explicit-package-bases", f"--cache-dir={ROOT / '.mypy_cache'}"]
    return check(["mypy", *options, *map(str, files)], folder=folder)


def pyright(*files, folder):
    (folder / "pyrightconfig.json").write_text(
        f'{{"typeCheckingMode": "strict", "extraPaths": ["{ROOT}", "{folder}"]}}'
    )
    code, text = check(["pyright", "--pythonpath", sys.executable, *files], folder=folder)
    if "error" not in text and "0 errors" not in text:
        pytest.skip(f"pyright does not run here: {text[-200:]}")
    return code, text


def unseen(text):
    """The misuses on whose line the checker saw nothing."""
    lines = {int(n) for n in re.findall(r"misuse\.py:(\d+)(?::\d+)?(?: -)?:? error", text)}
    return [line for number, line in enumerate(MISUSES, start=11) if number not in lines]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_the_module_of_a_typed_user_passes(checker, module):
    code, text = checker("api.py", folder=module.parent)

    assert code == 0, text


@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_every_misuse_is_rejected(checker, module):
    _, text = checker("misuse.py", folder=module.parent)

    assert unseen(text) == [], text
