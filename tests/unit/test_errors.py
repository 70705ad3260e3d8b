"""Errors: one shape, and data that survives being copied and sent."""

import copy
import pickle
import pkgutil
import re
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy.exc import OperationalError

import statejobs
from statejobs import errors
from statejobs.cli.problems import Problem, problem_of
from statejobs.errors import StateJobsError
from statejobs.runner.answers import NotWritten
from statejobs.runner.undone import UndoneError
from statejobs.store.engines.wake import _NotOursError
from statejobs.store.unfinished_ticks import UnfinishedTick
from statejobs.values.argument_values import NotStorable
from statejobs.values.outcome import Cancel, Snooze, Stale, Superseded
from statejobs.work.outcomes import RecordMoved
from statejobs.work.schedules.pager import _PageFailedError
from tests.support.clock import NOON

LOCKED = OperationalError("SELECT 1", None, Exception("database is locked"))
TICK = UnfinishedTick(
    key="order.expire",
    at=NOON,
    began_at=NOON,
    cursor=None,
    enqueued=0,
    skipped=0,
    reason=None,
)
REFERENCE = Path(__file__).parents[2] / "docs/reference/declaration.md"


def all_of(kind):
    """Return the classes of statejobs that derive from *kind*."""
    for module in pkgutil.walk_packages(statejobs.__path__, "statejobs."):
        if "migrations" not in module.name and "__main__" not in module.name:
            import_module(module.name)
    found, waiting = set(), [kind]
    while waiting:
        new = set(type.__subclasses__(waiting.pop())) - found
        waiting += new
        found |= new
    return {one for one in found if _module(one).startswith("statejobs.")}


def _module(kind):
    # Other tests make classes that raise whatever they are asked.
    return str(type.__getattribute__(kind, "__dict__").get("__module__"))


def example_of(kind):
    """Return an error with something in each attribute."""
    return EXAMPLES.get(kind, lambda: kind("what", where="where", why="why", fix="fix"))


EXAMPLES = {
    errors.DuplicateJobError: lambda: errors.DuplicateJobError(
        "digest.send", job_id=7, state="queued"
    ),
    errors.DefinitionError: lambda: errors.DefinitionError(
        "Order", "it has no state", why="why", fix="fix"
    ),
    errors.ConfigurationError: lambda: errors.ConfigurationError(
        "no URL", why="why", fix="fix"
    ),
    errors.ClosedError: errors.ClosedError,
    errors.JobNotCompletedError: lambda: errors.JobNotCompletedError(
        SimpleNamespace(id=7, key="a.b", state="cancelled", reason="no paper")
    ),
    errors.BindMismatchError: lambda: errors.BindMismatchError(
        "Order", "sqlite:///a.db", "sqlite:///b.db"
    ),
    errors.ArgumentsError: lambda: errors.ArgumentsError(
        "daily", "day", "cannot be stored", why="it is too deep", fix="pass its key"
    ),
    errors.TransitionRefusedError: lambda: errors.TransitionRefusedError(
        "pay",
        record="Order 1",
        state="draft",
        reasons=["it is empty."],
        available=["fill"],
        job_id=7,
    ),
    errors.NotAllowedError: lambda: errors.NotAllowedError(
        "pay", record="Order 1", state="draft", reasons=["Only its author may."]
    ),
    errors.TenantMismatchError: lambda: errors.TenantMismatchError(
        "Order 1", tenant="ours", named="theirs"
    ),
    errors.BulkError: lambda: errors.BulkError("Order.pay", "it", why="why", fix="fix"),
    errors.RecordKeptError: lambda: errors.RecordKeptError("Order 1"),
    errors.RecordHiddenError: lambda: errors.RecordHiddenError("orders", "worker"),
    errors.RowRefusedError: lambda: errors.RowRefusedError("no", times=10),
    errors.StaleTransitionError: lambda: errors.StaleTransitionError(
        "pay", record="Order 1", expected="draft", found="paid"
    ),
}
OTHERS = {
    Snooze: lambda: Snooze(minutes=5, reason="busy"),
    Cancel: lambda: Cancel("no longer wanted"),
    Stale: lambda: Stale("sold out"),
    Problem: lambda: Problem("what", "why", "fix"),
    NotStorable: lambda: NotStorable("it is too deep", fix="pass its key"),
    NotWritten: lambda: NotWritten(Superseded("moved away")),
    RecordMoved: lambda: RecordMoved("moved away"),
    UndoneError: lambda: UndoneError(LOCKED),
    _NotOursError: lambda: _NotOursError("/tmp/app.db-wake"),
    _PageFailedError: lambda: _PageFailedError(TICK, None, NotStorable("it is deep")),
}
OURS = sorted({StateJobsError} | all_of(StateJobsError), key=lambda kind: kind.__name__)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, "pickled"])
@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_an_error_keeps_its_data_when_it_is_copied_or_pickled(kind, copied):
    error = example_of(kind)()
    error.add_note("met by a test")

    again = _pickled(error) if copied == "pickled" else copied(error)

    assert type(again) is kind
    assert (str(again), again.args, vars(again)) == (
        str(error),
        error.args,
        vars(error),
    )
    assert vars(again).keys() >= {"what", "where", "why", "fix", "__notes__"}


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_a_text_says_all_that_the_attributes_say(kind):
    error = example_of(kind)()

    assert error.what in str(error).replace("\n", " ")
    for part in (error.where, error.why, error.fix):
        assert part in str(error)


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_an_error_of_users_is_public_and_says_when_it_is_raised(kind):
    assert kind.__module__ == "statejobs.errors"
    assert getattr(statejobs, kind.__name__) is kind
    assert kind.__doc__
    assert re.search(
        rf"^\| `{kind.__name__}` \| \w", REFERENCE.read_text(), re.MULTILINE
    )


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_people_read_the_attributes_of_an_error_and_not_its_text(kind):
    error = example_of(kind)()
    error.args = ("not: to be read. Or cut; or shown",)

    problem = problem_of(error)

    assert problem.what == error.headline
    assert problem.why == error.why or not error.why
    assert problem.why
    assert problem.fix


@pytest.mark.parametrize("kind", OTHERS, ids=lambda kind: kind.__name__)
def test_what_is_raised_beside_errors_keeps_its_data_too(kind):
    raised = OTHERS[kind]()

    for again in (_pickled(raised), copy.copy(raised), copy.deepcopy(raised)):
        assert type(again) is kind
        assert repr((again, vars(again))) == repr((raised, vars(raised)))


def test_what_is_no_error_says_who_raises_it_or_through_what_it_unwinds():
    assert all_of(BaseException) == {*OURS, *OTHERS}
    for kind in OTHERS:
        assert re.search(
            "[Uu]nwinds through|Unwinds as|^Raise in an action", kind.__doc__
        )


def test_a_snooze_that_was_pickled_waits_as_long():
    assert _pickled(Snooze(timedelta(hours=2))).delay == timedelta(hours=2)


def _pickled(error):
    return pickle.loads(pickle.dumps(error))
