"""What people ask about the schedules of an app, and do to them: its methods."""

from __future__ import annotations

from statejobs.awaited import Awaited
from statejobs.people import schedule_acts
from statejobs.people.desk import Desk
from statejobs.people.dry_ticks import ScheduleDryRun
from statejobs.people.schedules import (
    SchedulePage,
    ShownSchedule,
    ShownTick,
    schedule_list,
    schedule_page,
)
from statejobs.values.kinds import check_text


class SchedulesByHand:
    """What people do to the schedules of an app by hand."""

    desk: Desk

    def schedules(self) -> tuple[ShownSchedule, ...]:
        """Return the schedules: of this code, and of other code that was started."""
        return schedule_list(self.desk)

    def schedule(self, key: str) -> SchedulePage:
        """Return a schedule with its last ticks.

        Raises:
            NotFoundError: There is no such schedule.
        """
        return schedule_page(self.desk, _key("schedule", key))

    def pause_schedule(self, key: str) -> ShownSchedule:
        """Let a schedule tick no more, whatever code is deployed; return it as it is then.

        Raises:
            NotFoundError: There is no such schedule.
        """
        return schedule_acts.pause_schedule(self.desk, _key("pause_schedule", key))

    def resume_schedule(self, key: str) -> ShownSchedule:
        """Let a paused schedule tick again, from its next instant on; return it as it is then.

        Raises:
            NotFoundError: There is no such schedule.
        """
        return schedule_acts.resume_schedule(self.desk, _key("resume_schedule", key))

    def run_schedule(self, key: str) -> ShownTick:
        """Tick now, out of turn, also while it is paused; return the tick.

        A scheduled action has its job then. The records of a trigger are picked by the workers.

        Raises:
            NotFoundError: There is no such schedule.
            WrongCallError: This code does not declare it.
        """
        return schedule_acts.run_schedule(self.desk, _key("run_schedule", key))

    def dry_run_schedule(self, key: str) -> ScheduleDryRun:
        """Return what `run_schedule` would do now; nothing is changed.

        Raises:
            NotFoundError: There is no such schedule.
            WrongCallError: This code does not declare it.
        """
        return schedule_acts.dry_run_schedule(self.desk, _key("dry_run_schedule", key))

    # The same for asyncio

    schedules_async = Awaited(schedules)
    schedule_async = Awaited(schedule)
    pause_schedule_async = Awaited(pause_schedule)
    resume_schedule_async = Awaited(resume_schedule)
    run_schedule_async = Awaited(run_schedule)
    dry_run_schedule_async = Awaited(dry_run_schedule)


def _key(call: str, key: str) -> str:
    check_text(f"{call}(key)", key, example="report.daily")
    return key
