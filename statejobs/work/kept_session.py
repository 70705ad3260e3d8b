"""Keeps the body of an action from ending the transaction of its attempt below its session."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sqlalchemy import Connection

from statejobs.errors import StateJobsError
from statejobs.store.engines.kept import KEPT, Unended, ending_in
from statejobs.store.engines.lazy_begin import in_transaction


class KeptTransaction:
    """The transaction, or the savepoint, in which a session writes until its job ends."""

    def __init__(
        self,
        connection: Connection,
        *,
        may_end: Callable[[], bool],
        monotonic: Callable[[], float],
    ) -> None:
        """Keep what *connection* has open until *may_end* says so; *monotonic* seconds are told."""
        self._connection = connection
        self._may_end = may_end
        self._monotonic = monotonic
        self._began = monotonic()
        nested = Connection.get_nested_transaction(connection)
        self._base = nested or Connection.get_transaction(connection)
        self._has_begun = in_transaction(connection)
        own = vars(connection)  # no event comes before a transaction has ended
        if nested is None:
            own["commit"] = partial(self.refuse, "COMMIT")
            own["rollback"] = partial(self.refuse, "ROLLBACK")
            own["detach"] = partial(self.refuse, "detach()")
            own["get_transaction"] = partial(Unended, self._base, self.refuse)
        else:
            own["get_nested_transaction"] = self._nested
        connection.execution_options(**{KEPT: self})

    def check(self, statement: str) -> None:
        """Raise if *statement* would end the transaction."""
        ending = ending_in(statement)
        if ending is not None:
            self.refuse(ending)

    def check_begin(self) -> None:
        """Raise if it was ended behind our back, and would begin once more."""
        if self._has_begun and not self._may_end():
            raise _ended()

    def note_begun(self, *, is_open: bool) -> None:
        """Note that it has begun, or that what began was rolled back at once."""
        self._has_begun = is_open
        self._began = self._monotonic()

    def seconds(self) -> float:
        """Return for how long the database has had it open."""
        return self._monotonic() - self._began

    def check_open(self) -> None:
        """Raise if something ended it before its job."""
        connection = self._connection
        if connection.closed or connection.invalidated:
            return  # whoever uses it next is told
        is_open = self._base is None or self._base.is_active
        if not is_open or (self._has_begun and not in_transaction(connection)):
            raise _ended()

    def refuse(self, what: str = "COMMIT") -> None:
        """Raise, unless the job ends now."""
        if not self._may_end():
            raise refused(what)

    def _nested(self) -> object:
        found = Connection.get_nested_transaction(self._connection)
        return Unended(found, self.refuse) if found is self._base else found


def refused(what: str) -> StateJobsError:
    """Return the error for a body that said *what*."""
    return StateJobsError(
        f"{what} in the body of an action",
        why=(
            "the runner commits, together with the outcome of the job, when "
            "the action returns"
        ),
        fix=(
            "To take back what was written, use ctx.session.rollback() or a "
            "savepoint, ctx.session.begin_nested(); to keep what later "
            "attempts need, ctx.checkpoint; for what must be written "
            "whatever happens, a session of your own"
        ),
    )


def _ended() -> StateJobsError:
    return StateJobsError(
        "the transaction of the action ended before the action did, by a "
        "COMMIT or ROLLBACK past SQLAlchemy, or by the database after an error "
        "that the action caught",
        why="what follows would be committed without what came before",
        fix=(
            "Leave the driver's connection alone, and let errors of "
            "statements out, or put them in a savepoint, with "
            "ctx.session.begin_nested()"
        ),
    )
