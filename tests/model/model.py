"""What the engine should do, on paper: a record, its job, its history. No database, no threads."""

import copy
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

ALLOWANCE, MOST_CRASHES, MOST_SNOOZES = 3, 2, 2
LEASE, BACKOFF, SNOOZE = 30, 20, 300  # seconds
WAITING = {"scheduled", "queued", "failed"}
ENDED = {"completed", "cancelled", "discarded"}
SPENT = {
    "fail": "failed",
    "crash": "crashed",
    "cancel": "cancelled",
}
GIVEN_BACK = {"snooze", "release", "stale"}
WAITS = {"fail": BACKOFF, "snooze": SNOOZE}
ENDS = {  # outcome -> edge and state of the job, where the record goes
    "complete": ("complete", "completed", "done"),
    "fail": ("fail", "failed", "waiting"),
    "snooze": ("snooze", "scheduled", "waiting"),
    "release": ("release", "queued", "waiting"),
    "crash": ("rescue", "queued", "waiting"),
    "discard": ("discard", "discarded", "lost"),
    "snoozed out": ("discard", "discarded", "lost"),
    "cancel": ("cancel", "cancelled", "lost"),
    "stale": ("cancel", "cancelled", "waiting"),
    "superseded": ("cancel", "cancelled", None),
}
ENDED_AS = {  # what an attempt ended as, once that ends its job
    "complete": "completed",
    "fail": "failed",
    "snoozed out": "failed",
    "crash": "crashed",
    "cancel": "cancelled",
    "stale": "stale",
    "superseded": "superseded",
}
TRANSITIONS = {  # name -> where from, where to, whether it asks for the job
    "ask": ({"new"}, "waiting", True),
    "take_back": ({"waiting"}, "new", False),
    "bounce": ({"running"}, "waiting", True),
    "nudge": ({"waiting"}, "waiting", True),
    "watch": ({"running"}, "running", False),
    "drop": ({"new", "waiting", "running", "lost"}, "gone", False),
    "retry": ({"lost"}, "waiting", True),
    "reopen": ({"done", "gone"}, "new", False),
}


@dataclass
class Job:
    state: str
    due: float
    attempt: int = 0
    most: int = ALLOWANCE
    crashes: int = 0
    snoozes: int = 0
    ended: str | None = None
    """How it ended."""
    again: bool = False
    asked: bool = False
    """A person, or a transition out of `running`, wants it to stop."""
    token: str | None = None
    lease: float = 0


@dataclass
class Record:
    walk: list = field(default_factory=lambda: ["new"])
    """Every state it was in."""
    job: Job | None = None
    """The one that is not completed."""
    completed: int = 0
    """Jobs that are, all of which ended as `completed`."""
    runs: int = 0
    """Written by the action to its own record."""
    effects: int = 0
    """Written by the action through its session."""
    tried: list = field(default_factory=list)
    """Attempts that did not complete."""

    @property
    def state(self):
        return self.walk[-1]

    @property
    def versions(self):
        """After each step: only leaving a state counts."""
        left = [a != b for a, b in pairwise(self.walk)]
        return [0, *accumulate(left)]


class Model:
    def __init__(self):
        self.now = 0.0
        self.records = {}
        self.unflushed = {}

    def create(self, key):
        self.records[key] = Record()

    def copy(self):
        return copy.deepcopy(self.records)

    def restore(self, records):
        self.records, self.unflushed = records, {}

    # Users ---------------------------------------------------------------------------------------

    def possible(self, key):
        """What a user may do to a record: transitions, and asking for the job by name."""
        state = self.records[key].state
        asks = ["enqueue", "enqueue later"] if state in {"waiting", "running"} else []
        return [
            name for name, (sources, *_) in TRANSITIONS.items() if state in sources
        ] + asks

    def fire(self, key, name):
        """Move a record in memory; False when the transition is not allowed."""
        record, (sources, target, asks) = self.records[key], TRANSITIONS[name]
        if record.state not in sources:
            return False
        left = record.state if target != record.state else None
        self.unflushed.setdefault(key, []).append((left, asks))
        record.walk.append(target)
        return True

    def flush(self):
        """Where a record ends up decides, however many steps lead there."""
        for key, steps in self.unflushed.items():
            record = self.records[key]
            job, left = record.job, {source for source, _ in steps}
            if job and job.state == "processing" and "running" in left:
                job.asked = True
            if (
                job
                and job.state in WAITING
                and "waiting" in left
                and record.state != "waiting"
            ):
                job.state, job.ended = "cancelled", "left"
            if record.state == "waiting" and any(asks for _, asks in steps):
                self.enqueue(record, 0)
        self.unflushed = {}

    def enqueue(self, record, delay):
        job, due = record.job, self.now + delay
        if job is None:
            record.job = Job("scheduled" if delay else "queued", due)
        elif job.state == "processing":
            job.again, job.due = True, due
        else:  # an ended one goes on, a waiting one begins anew
            attempt = 0 if job.state in WAITING else job.attempt
            record.job = Job(
                "scheduled" if delay else "queued", due, attempt, attempt + ALLOWANCE
            )

    def with_job(self, pick=0):
        """One of the records that have a job which is not completed; None without any."""
        found = [key for key, record in self.records.items() if record.job]
        return found[pick % len(found)] if found else None

    def cancel(self, key):
        """A person stops the job of a record; False when it has ended."""
        record = self.records[key]
        if record.job.state in WAITING:
            record.job.state, record.job.ended = "cancelled", "cancelled"
            record.walk.append("lost")
        elif record.job.state == "processing":
            record.job.asked = True
        else:
            return False
        return True

    def retry(self, key):
        """A person lets the job of a record go on; False when it cannot."""
        record = self.records[key]
        job = record.job
        if job.state == "processing":
            return False
        if record.state == "waiting":
            if job.state in ENDED:  # as stale: else the two would contradict each other
                record.job = Job(
                    "queued", self.now, job.attempt, job.attempt + ALLOWANCE
                )
            else:
                job.state, job.due = "queued", self.now
            return True
        can = self.fire(key, "retry") or self.fire(key, "ask")
        self.flush()
        return can

    # Workers -------------------------------------------------------------------------------------

    def queued(self):
        return {
            key for key, r in self.records.items() if r.job and r.job.state == "queued"
        }

    def suspects(self):
        return {key for key in self.queued() if self.records[key].job.crashes}

    def stage(self):
        for job in filter(None, (record.job for record in self.records.values())):
            if job.state in WAITING and job.due <= self.now:
                job.state = "queued"

    def claim(self, record, token):
        job = record.job
        job.state, job.attempt, job.token = "processing", job.attempt + 1, token
        job.lease, job.asked = self.now + LEASE, False
        record.walk.append("running")

    def beat(self, record, token):
        if record.job and record.job.token == token:
            record.job.lease = self.now + LEASE

    def finish(self, record, token, outcome):
        """Return the edge that the job takes, or `late`."""
        job = record.job
        if job is None or job.token != token:
            return "late"
        if job.asked and outcome not in {"complete", "stale"}:
            outcome = "cancel"
        if record.state != "running":
            outcome = "superseded"
        return self._settle(record, job, outcome)

    def rescue(self):
        """Return how many jobs lost their lease."""
        expired = [
            record
            for record in self.records.values()
            if record.job
            and record.job.state == "processing"
            and record.job.lease < self.now
        ]
        for record in expired:
            self.finish(record, record.job.token, "crash")
        return len(expired)

    def _settle(self, record, job, outcome):
        if outcome in SPENT:
            record.tried.append((job.attempt, SPENT[outcome]))
        if outcome == "snooze" and job.snoozes >= MOST_SNOOZES:
            outcome = "snoozed out"
        edge, job.state, target = self._decide(job, outcome)
        job.ended = ENDED_AS[outcome] if job.state in ENDED else None
        if target:
            record.walk.append(target)
        if job.again and record.state == "waiting":
            state = "scheduled" if job.due > self.now else "queued"
            job.state, job.attempt, job.most, job.crashes = state, 0, ALLOWANCE, 0
            job.snoozes, job.ended = 0, None
        job.again, job.asked, job.token = False, False, None
        if job.state == "completed":
            record.job, record.completed = None, record.completed + 1
        return edge

    def _decide(self, job, outcome):
        """Return edge, state of the job, and where the record goes."""
        is_last = job.attempt >= job.most
        if outcome == "crash":
            job.crashes += 1
            is_last = is_last or job.crashes >= MOST_CRASHES
        if outcome in {*GIVEN_BACK, "snoozed out"}:
            job.attempt -= 1
        job.snoozes += outcome == "snooze"
        if outcome in WAITS and not job.again:
            job.due = self.now + WAITS[outcome]
        if outcome in {"fail", "crash"} and is_last:
            outcome = "discard"
        return ENDS[outcome]

    # Looking -------------------------------------------------------------------------------------

    def look(self):
        """What the database should say."""
        return {
            key: {
                "walk": record.walk,
                "versions": record.versions,
                "job": record.job and _shown(record.job),
                "completed": record.completed,
                "runs": record.runs,
                "effects": record.effects,
                "tried": record.tried,
            }
            for key, record in self.records.items()
        }


def _shown(job):
    runs = job.state == "processing"
    return {
        "state": job.state,
        "attempt": job.attempt,
        "most": job.most,
        "crashes": job.crashes,
        "snoozes": job.snoozes,
        "ended": job.ended,
        "again": job.again,
        "asked": job.asked,
        "lease": job.lease if runs else None,
        "due": job.due if job.state in {"scheduled", "failed"} else None,
        "is_ended": job.state in {"cancelled", "discarded"},
    }
