"""Jobs that match: how many they are, some of them, and what people do to all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from statejobs.awaited import Awaited
from statejobs.people.batches import Act, OnBatch, act_on_all
from statejobs.people.cancelling import cancel_batch
from statejobs.people.deleting import delete_batch
from statejobs.people.desk import Desk
from statejobs.people.editing import checked_edit, edit_batch
from statejobs.people.handled import Handled
from statejobs.people.retrying import retry_batch
from statejobs.store.filters import Filters, filters_of, one_or_many
from statejobs.values.clock import FIRST
from statejobs.values.job import Job, JobOutcome, JobState, OutcomeName
from statejobs.values.kinds import check_span, check_text, check_whole

BY_HAND = "cancelled by a person"
"""Why a job was cancelled of which nobody said why."""


class Selection:
    """The jobs that match, looked for anew by each call.

    What changes them works through them from the oldest to the newest of that moment, 500 in a
    transaction of their own, and waits for nobody. When it is interrupted, what is committed stays;
    called again it goes on with those that still match. Each has a form for asyncio,
    `retry_async` of `retry`.
    """

    def __init__(
        self, desk: Desk, filters: Filters, *, older_than: timedelta | None = None
    ) -> None:
        self._desk = desk
        self._wanted = filters
        self._older_than = older_than

    def count(self) -> int:
        """Return how many there are now.

        Raises:
            NotFoundError: There are none, and a queue, key or resource that nobody knows is named.
        """
        return self._desk.queries.matching.count(self._filters())

    def sample(self, n: int = 5) -> list[Job]:
        """Return the newest *n* of them.

        Raises:
            NotFoundError: As `count`.
        """
        check_whole("sample(n)", n)
        return self._desk.queries.matching.newest(self._filters(), limit=n)

    def retry(self, *, on_batch: OnBatch | None = None) -> Handled:
        """Let them go on now, each as `retry_job` does.

        Args:
            on_batch: Called after each commit with the counts so far; what it raises ends the act.

        Raises:
            NotFoundError: As `count`.
        """
        return self._act(retry_batch, on_batch)

    def cancel(
        self, reason: str = BY_HAND, *, on_batch: OnBatch | None = None
    ) -> Handled:
        """Cancel those that wait, and ask those to stop that run, each as `cancel_job` does.

        Args:
            reason: Kept with the jobs and in history.
            on_batch: As for `retry`.

        Raises:
            NotFoundError: As `count`.
        """
        check_text("cancel(reason)", reason, example=BY_HAND)
        return self._act(partial(cancel_batch, reason=reason), on_batch)

    def delete(self, *, on_batch: OnBatch | None = None) -> Handled:
        """Delete them with their attempts; those that run are refused.

        A record that waits for its job goes to the failed state of the action; where there is none,
        the job is refused.

        Args:
            on_batch: As for `retry`.

        Raises:
            NotFoundError: As `count`.
        """
        return self._act(delete_batch, on_batch)

    def edit(
        self,
        *,
        run_at: datetime | None = None,
        priority: int | None = None,
        queue: str | None = None,
        on_batch: OnBatch | None = None,
    ) -> Handled:
        """Change those that wait; those that run or have ended are refused.

        Args:
            run_at: When they shall run, with a time zone.
            priority: 0 (first) to 9 (last) inside their queue.
            queue: Their queue.
            on_batch: As for `retry`.

        Raises:
            NotFoundError: As `count`; or there is no such queue to move them to.
            WrongValueError: Nothing is to be changed, or a value is of the wrong kind.
        """
        edit = checked_edit(self._desk, run_at=run_at, priority=priority, queue=queue)
        return self._act(partial(edit_batch, edit=edit), on_batch)

    # The same for asyncio

    count_async = Awaited(count)
    sample_async = Awaited(sample)
    retry_async = Awaited(retry)
    cancel_async = Awaited(cancel)
    delete_async = Awaited(delete)
    edit_async = Awaited(edit)

    def _act(self, act: Act, on_batch: OnBatch | None) -> Handled:
        return act_on_all(self._desk, act, self._filters(), on_batch or _tell_nobody)

    def _filters(self) -> Filters:
        if self._older_than is None:
            return self._wanted
        now = self._desk.now()
        before = now - self._older_than if self._older_than < now - FIRST else FIRST
        return replace(self._wanted, before=before)


def select_jobs(
    desk: Desk,
    *,
    queue: str | None = None,
    key: str | None = None,
    state: JobState | str | Sequence[JobState | str] | None = None,
    outcome: JobOutcome
    | OutcomeName
    | Sequence[JobOutcome | OutcomeName]
    | None = None,
    resource: str | type | None = None,
    record: object = None,
    tag: str | None = None,
    older_than: timedelta | None = None,
    error: str | None = None,
) -> Selection:
    """Return the jobs for which all that is given is true.

    Raises:
        NotFoundError: There is no such state or outcome, or no such key of a record.
        WrongValueError: A value is of the wrong kind.
    """
    check_span("select(older_than=…)", older_than, or_none=True)
    filters = filters_of(
        desk.queries.matching.names,
        where="select",
        states=one_or_many("select(state=…)", state, example='state="discarded"'),
        outcomes=one_or_many("select(outcome=…)", outcome, example='outcome="stale"'),
        queue=queue,
        key=key,
        resource=resource,
        record=record,
        tag=tag,
        error=error,
    )
    return Selection(desk, filters, older_than=older_than)


def _tell_nobody(_handled: Handled) -> None:
    """Take the counts of a batch that nobody asked for."""
