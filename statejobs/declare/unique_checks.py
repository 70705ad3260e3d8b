"""What a trigger that is `Unique` for a period cannot be: its record must not wait for its job."""

from __future__ import annotations

from statejobs.declare.compile_checks import Declared
from statejobs.errors import DefinitionError
from statejobs.record.ledger import value_of
from statejobs.record.specs import ActionSpec


def refuse_waiting_records(declared: Declared) -> None:
    """Refuse a period where a record would rest for a job that it does not get.

    Raises:
        DefinitionError: The action of such a trigger leads elsewhere; or a move that runs it
            would fail, since its `Unique` raises.
    """
    for name, action in declared.actions.items():
        if action.trigger.options.unique is not None and not _stays(action):
            raise _leads_away(declared, name, action)
    for name, run in declared.runs():
        unique = run.options.unique
        if unique is not None and unique.on_conflict == "raise":
            raise DefinitionError(
                declared.where(name),
                f"it runs trigger {run.options.key!r}, whose Unique raises",
                why="a job that is there already would fail the flush that moves the record",
                fix="say on_conflict='skip', or leave out run_trigger and enqueue the "
                "action where you can catch DuplicateJobError",
            )


def _stays(action: ActionSpec) -> bool:
    """Return whether the record is where it was while the action runs, and afterwards."""
    is_beside = not action.targets and not action.deletes
    return action.during is None and (is_beside or action.source == action.targets)


def _leads_away(declared: Declared, name: str, action: ActionSpec) -> DefinitionError:
    sources = ", ".join(value_of(state) for state in action.source)
    targets = " or ".join(value_of(target) for target in action.targets)
    where_to = (
        "deletes its record" if action.deletes else f"leads from {sources} to {targets}"
    )
    during = "" if action.during is None else f" during {value_of(action.during)}"
    return DefinitionError(
        declared.where(name),
        f"trigger {action.trigger.options.key!r} is Unique for a period, and the action "
        f"{where_to}{during}",
        why="a record that rests in its source waits for a job, which the period may refuse",
        fix="let the action lead back to its one source, without during=; or leave out "
        "unique=",
    )
