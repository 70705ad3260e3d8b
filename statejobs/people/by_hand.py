"""What people do to the jobs of an app by hand: its methods, each with a form for asyncio."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from statejobs.awaited import Awaited
from statejobs.declare.trigger import Trigger
from statejobs.people import acts, results
from statejobs.people.desk import Desk
from statejobs.people.schedules_by_hand import SchedulesByHand
from statejobs.people.selection import BY_HAND, Selection, select_jobs
from statejobs.people.would_schedule import WouldSchedule, would_schedule
from statejobs.values.job import Job, JobOutcome, JobState, OutcomeName
from statejobs.values.kinds import check_job_id, check_span


class ByHand(SchedulesByHand):
    """What people do to the jobs of an app by hand."""

    desk: Desk

    def cancel_job(self, job_id: int, *, reason: str = BY_HAND) -> JobState:
        """Cancel a waiting job, or ask a running one to stop; return its state now."""
        check_job_id("cancel_job()", job_id)
        return acts.cancel_job(self.desk, job_id, reason=reason)

    def retry_job(self, job_id: int) -> JobState:
        """Let an ended or waiting job go on now; return its state.

        A discarded job whose record is in its failed state goes through the declared transition
        that runs the trigger, guards and history included. A stuck record is moved back to where
        its job found it.
        """
        check_job_id("retry_job()", job_id)
        return acts.retry_job(self.desk, job_id)

    def delete_job(self, job_id: int) -> None:
        """Delete a job and its attempts, unless it runs.

        A record that waits for it goes to the failed state of the action; where there is none, the
        job is refused.
        """
        check_job_id("delete_job()", job_id)
        acts.delete_job(self.desk, job_id)

    def edit_job(
        self,
        job_id: int,
        *,
        run_at: datetime | None = None,
        priority: int | None = None,
        queue: str | None = None,
    ) -> JobState:
        """Change when, how urgently or where a waiting job runs; return its state."""
        check_job_id("edit_job()", job_id)
        return acts.edit_job(
            self.desk, job_id, run_at=run_at, priority=priority, queue=queue
        )

    def why_no_retry(self, job_id: int) -> str | None:
        """Return why `retry_job` would refuse a job now; None when it would not."""
        check_job_id("why_no_retry()", job_id)
        return acts.why_no_retry(self.desk, job_id)

    def stuck_jobs(self, *, limit: int = 100) -> list[Job]:
        """Return the discarded jobs whose record the database let nobody move, newest first.

        The record still is where the job ran. `retry_job` moves it back and lets the job go on.
        """
        return acts.stuck_jobs(self.desk, limit=limit)

    def select(
        self,
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
        """Return the jobs that match, to count them and to change all of them.

        Args:
            queue: Only jobs of this queue.
            key: Only jobs of this trigger or task.
            state: Only jobs in this state, or in one of several.
            outcome: Only jobs that ended so, or in one of several ways.
            resource: Only jobs of records of this resource: its name or its class.
            record: Only jobs of this record: itself, its key, or text.
            tag: Only jobs with this tag.
            older_than: Only jobs that ended so long ago; while they live, were enqueued.
            error: Only jobs whose last error was of this type, such as "TimeoutError".

        Raises:
            NotFoundError: There is no such state or outcome, or no such key of a record.
        """
        return select_jobs(
            self.desk,
            queue=queue,
            key=key,
            state=state,
            outcome=outcome,
            resource=resource,
            record=record,
            tag=tag,
            older_than=older_than,
            error=error,
        )

    def would_schedule(self, trigger: Trigger, record: object) -> WouldSchedule:
        """Return whether a tick of *trigger* now would make a job of *record*, or why not.

        It is asked of the database: what was not committed does not count.

        Raises:
            WrongValueError: It has no such trigger, or that has no schedule.
        """
        return would_schedule(self.desk, trigger, record)

    def result(self, job_id: int) -> Any:
        """Return what the task of a job returned, as JSON values; None when there is nothing.

        Raises:
            NotFoundError: No such job.
        """
        check_job_id("result()", job_id)
        return results.result_of(self.desk, job_id)

    def wait(self, job_id: int, *, timeout: timedelta | None = None) -> Any:
        """Wait until workers have ended a job; return what its task returned.

        Args:
            job_id: The job.
            timeout: How long; for ever without.

        Raises:
            NotFoundError: No such job, or no longer.
            JobNotCompletedError: It was cancelled or discarded.
            WaitTimeoutError: It has not ended in time.
        """
        check_job_id("wait()", job_id)
        check_span("wait(timeout=…)", timeout, or_none=True)
        return results.result_at_end(self.desk, job_id, timeout)

    # The same for asyncio

    cancel_job_async = Awaited(cancel_job)
    retry_job_async = Awaited(retry_job)
    delete_job_async = Awaited(delete_job)
    edit_job_async = Awaited(edit_job)
    result_async = Awaited(result)
    wait_async = Awaited(wait)
    why_no_retry_async = Awaited(why_no_retry)
    stuck_jobs_async = Awaited(stuck_jobs)
    would_schedule_async = Awaited(would_schedule)
