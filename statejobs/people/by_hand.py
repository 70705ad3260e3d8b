"""What people do to the jobs of an app by hand: its methods, each with a form for asyncio."""

from __future__ import annotations

from statejobs.awaited import Awaited
from statejobs.people import acts
from statejobs.people.desk import Desk
from statejobs.values.job import Job, JobState
from statejobs.values.kinds import check_job_id


class ByHand:
    """What people do to the jobs of an app by hand."""

    desk: Desk

    def cancel_job(
        self, job_id: int, *, reason: str = "cancelled by a person"
    ) -> JobState:
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

    def why_no_retry(self, job_id: int) -> str | None:
        """Return why `retry_job` would refuse a job now; None when it would not."""
        check_job_id("why_no_retry()", job_id)
        return acts.why_no_retry(self.desk, job_id)

    def stuck_jobs(self, *, limit: int = 100) -> list[Job]:
        """Return the discarded jobs whose record the database let nobody move, newest first.

        The record still is where the job ran. `retry_job` moves it back and lets the job go on.
        """
        return acts.stuck_jobs(self.desk, limit=limit)

    # The same for asyncio

    cancel_job_async = Awaited(cancel_job)
    retry_job_async = Awaited(retry_job)
    why_no_retry_async = Awaited(why_no_retry)
    stuck_jobs_async = Awaited(stuck_jobs)
