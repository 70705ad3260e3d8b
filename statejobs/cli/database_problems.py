"""What an error of the database means to whoever typed a command: what, why, what to do."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy.exc import DBAPIError

from statejobs.store.faults import Fault, fault_of, is_wrong_address, sqlstate_of
from statejobs.values.discretion import without_values
from statejobs.values.redaction import DEFAULT


class Meaning(NamedTuple):
    """An error in three parts."""

    what: str
    why: str
    fix: str
    is_configuration: bool
    """Whether the same again can only meet the same."""


_ADDRESS = "the URL (--database, STATEJOBS_DATABASE, or your app)"
_MIGRATE = (
    "statejobs db upgrade for the tables of statejobs; your own migrations for your own"
)
_CODE_STATES = {
    "42P01": "a table",
    "42703": "a column",
    "42883": "a function",
    "3F000": "a schema",
}
_CODE_WORDS = {
    "no such table": "a table",
    "no such column": "a column",
    "has no column named": "a column",
    "no such function": "a function",
}
_NO_PRIVILEGE = "42501"


def meaning_of(error: DBAPIError) -> Meaning:
    """Return what *error* means."""
    why = _first_line(error)
    if is_wrong_address(error):
        fix = f"mend the user, the password or the name of the database in {_ADDRESS}"
        return Meaning(
            "the database lets nobody in this way", why, fix, is_configuration=True
        )
    if sqlstate_of(error) == _NO_PRIVILEGE:
        fix = f"GRANT it to that role, or name another role in {_ADDRESS}"
        return Meaning(
            "a privilege is missing in the database", why, fix, is_configuration=True
        )
    if fault_of(error) is Fault.CODE and (missing := _missing(error, why)) is not None:
        what = f"{missing} is missing in the database"
        return Meaning(what, why, _MIGRATE, is_configuration=True)
    return Meaning(
        "the database does not answer as it should",
        why,
        f"look at the server and at {_ADDRESS}, then the same again",
        is_configuration=False,
    )


def _missing(error: DBAPIError, why: str) -> str | None:
    """Return what the code looked for in vain."""
    state = sqlstate_of(error)
    if state is not None:
        return _CODE_STATES.get(state)
    return next((what for said, what in _CODE_WORDS.items() if said in why), None)


def _first_line(error: DBAPIError) -> str:
    original = error.orig or error
    lines = without_values(original, str(original)).strip().splitlines()
    return DEFAULT.text(lines[0]) if lines else type(original).__name__
