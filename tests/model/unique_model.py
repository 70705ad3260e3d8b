"""What requests for `Unique` tasks should do, on paper: no database, no threads."""

from dataclasses import dataclass

ALLOWANCE, BACKOFF, PERIOD = 2, 20, 60  # attempts, seconds
WAITING = {"scheduled", "queued", "failed"}
GAVE_UP = {"cancelled", "discarded"}
RULES = {
    "model.skip": {"period": PERIOD},
    "model.raise": {"on_conflict": "raise"},
    "model.again": {"on_conflict": "run_again", "period": PERIOD},
    "model.replace": {
        "on_conflict": "replace",
        "replace": {"scheduled": ["args", "run_at"], "failed": ["run_at"]},
    },
    "model.waiting": {"while_": "waiting"},
}


@dataclass
class Row:
    task: str
    customer: int
    item: int
    state: str
    due: float
    has_key: bool = True
    until: float | None = None
    first_until: float | None = None
    """Until when its key was to be held when it was asked for."""
    attempt: int = 0
    most: int = ALLOWANCE
    again: bool = False

    @property
    def holds(self):
        """Whether no other may have its key."""
        return self.has_key and (self.state != "completed" or self.until is not None)


class UniqueModel:
    def __init__(self):
        self.now = 0.0
        self.rows = {}
        """By the id of the job."""

    def request(self, task, customer, item, delay):
        """Return outcome and id of the job, which is None when a new one is to be made."""
        found = self.holder(task, customer)
        if found is None or self._frees(found[1]):
            return "inserted", None
        job_id, row = found
        fields = RULES[task].get("replace", {}).get(row.state)
        if RULES[task].get("on_conflict") == "run_again" and row.state != "completed":
            return self._runs_again(row, item, delay), job_id
        if fields is None:
            raises = RULES[task].get("on_conflict") == "raise"
            return ("raised" if raises else "duplicate"), job_id
        if "args" in fields:
            row.item = item
        if "run_at" in fields:
            row.due, row.state = self.now + delay, _waits(delay)
        return "replaced", job_id

    def _frees(self, row):
        """Whether the key is free now, which then is no longer that of the row."""
        is_over = row.state == "completed" and row.until <= self.now
        runs = row.state == "processing" and "while_" in RULES[row.task]
        if is_over or runs or row.state in GAVE_UP:
            row.until, row.has_key = None, row.state == "completed"
            return True
        return False

    def _runs_again(self, row, item, delay):
        row.item, row.due = item, self.now + delay
        if row.state == "processing":
            row.again = True
            return "run_again"
        row.state, row.attempt, row.most = _waits(delay), 0, ALLOWANCE
        return "coalesced"

    def insert(self, job_id, task, customer, item, delay):
        period = RULES[task].get("period")
        until = None if period is None else self.now + period
        self.rows[job_id] = Row(
            task,
            customer,
            item,
            _waits(delay),
            self.now + delay,
            until=until,
            first_until=until,
        )

    def holder(self, task, customer):
        for job_id, row in self.rows.items():
            if (row.task, row.customer) == (task, customer) and row.holds:
                return job_id, row
        return None

    def has_queued(self):
        return any(row.state == "queued" for row in self.rows.values())

    def stage(self):
        for row in self.rows.values():
            if row.state in WAITING and row.due <= self.now:
                row.state = "queued"

    def claim(self, job_id):
        row = self.rows[job_id]
        row.state, row.attempt = "processing", row.attempt + 1

    def finish(self, job_id, outcome):
        row = self.rows[job_id]
        is_last = row.attempt >= row.most
        if row.again:
            row.state = "scheduled" if row.due > self.now else "queued"
            row.attempt, row.most, row.again = 0, ALLOWANCE, False
        elif outcome == "fail" and not is_last:
            row.state, row.due = "failed", self.now + BACKOFF
        else:
            ends = {"complete": "completed", "fail": "discarded", "cancel": "cancelled"}
            row.state = ends[outcome]

    def cancel(self, job_id):
        """A person cancels a job; False when it does not wait."""
        row = self.rows[job_id]
        if row.state not in WAITING:
            return False
        row.state = "cancelled"
        return True

    def retry(self, job_id):
        """A person lets a job go on; False when it runs, or another has its key."""
        row = self.rows[job_id]
        if row.state == "processing" or not self._takes_key_back(job_id, row):
            return False
        if row.state not in WAITING:
            row.most = row.attempt + ALLOWANCE
        row.state, row.due = "queued", self.now
        return True

    def _takes_key_back(self, job_id, row):
        """Whether it has a key when it goes on, if it had none: no other may hold that."""
        if row.state in WAITING or (row.has_key and row.state in GAVE_UP):
            return True
        other = self.holder(row.task, row.customer)
        if other is not None and other[0] != job_id and not self._frees(other[1]):
            return False
        row.has_key, row.until = True, row.first_until
        return True

    def prune(self):
        """Completed jobs that hold no key go."""
        for job_id, row in list(self.rows.items()):
            is_held = row.until is not None and row.until > self.now
            if row.state == "completed" and not is_held:
                del self.rows[job_id]

    def look(self):
        """What the database should say."""
        return {
            job_id: {
                "task": row.task,
                "item": row.item,
                "state": row.state,
                "has_key": row.has_key,
                "until": row.until,
                "attempt": row.attempt,
                "most": row.most,
                "again": row.again,
                "due": row.due if row.state in {"scheduled", "failed"} else None,
            }
            for job_id, row in self.rows.items()
        }


def _waits(delay):
    return "scheduled" if delay else "queued"
