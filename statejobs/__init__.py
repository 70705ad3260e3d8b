"""State-machine-first domain models whose transitions run background jobs."""

import logging

from statejobs.acting import ActingMiddleware, acting_as, tenant
from statejobs.app import StateJobs
from statejobs.config import Retention, WorkerSettings
from statejobs.declare.action import Action
from statejobs.declare.changes import increment, set_to, stamp
from statejobs.declare.chunk import ChunkContext
from statejobs.declare.context import AsyncJobContext, JobContext
from statejobs.declare.defaults import Defaults
from statejobs.declare.domain import Domain
from statejobs.declare.mixin import StatefulResource
from statejobs.declare.run_trigger import Later
from statejobs.declare.scheduled_action import scheduled_action
from statejobs.declare.state_column import state_column
from statejobs.declare.task import Task, task
from statejobs.declare.transition import Transition, transition
from statejobs.declare.trigger import Trigger
from statejobs.errors import (
    ArgumentsError,
    BindMismatchError,
    BulkError,
    ClosedError,
    ConfigurationError,
    DefinitionError,
    DuplicateJobError,
    JobNotCompletedError,
    NotAllowedError,
    NotFoundError,
    ProtectedStateError,
    RecordFailedError,
    RecordHiddenError,
    RecordKeptError,
    RowRefusedError,
    SchemaError,
    StaleTransitionError,
    StateJobsError,
    TenantMismatchError,
    TransitionRefusedError,
    UnreadableRecordError,
    UnreadableRowError,
    WaitTimeoutError,
    WrongCallError,
    WrongValueError,
)
from statejobs.events import Event, Happening
from statejobs.machine.diagram import mermaid
from statejobs.machine.guard import guard
from statejobs.people.handled import Handled, Unhandled
from statejobs.people.selection import Selection
from statejobs.record.actors import ActorCodec
from statejobs.record.change import Change, ChangeContext
from statejobs.record.protect import override_state
from statejobs.runner.drain import DrainResult
from statejobs.store.ago import ago, everything
from statejobs.store.engines.sqlite import configure_sqlite
from statejobs.store.tables import metadata
from statejobs.store.types import UtcDateTime
from statejobs.values.backoff import Backoff, Exponential
from statejobs.values.clock import Clock, Sources, SystemClock, utcnow
from statejobs.values.cron import next_times
from statejobs.values.graph import MachineSpec
from statejobs.values.job import (
    BulkDryRun,
    BulkResult,
    Enqueued,
    EnqueueResult,
    Job,
    JobOutcome,
    JobState,
)
from statejobs.values.outcome import Cancel, Snooze, Stale
from statejobs.values.redaction import Redaction
from statejobs.values.unique import Unique
from statejobs.version import __version__
from statejobs.work.prune import Pruned

__all__ = [
    "ActingMiddleware",
    "Action",
    "ActorCodec",
    "ArgumentsError",
    "AsyncJobContext",
    "Backoff",
    "BindMismatchError",
    "BulkDryRun",
    "BulkError",
    "BulkResult",
    "Cancel",
    "Change",
    "ChangeContext",
    "ChunkContext",
    "Clock",
    "ClosedError",
    "ConfigurationError",
    "Defaults",
    "DefinitionError",
    "Domain",
    "DrainResult",
    "DuplicateJobError",
    "EnqueueResult",
    "Enqueued",
    "Event",
    "Exponential",
    "Handled",
    "Happening",
    "Job",
    "JobContext",
    "JobNotCompletedError",
    "JobOutcome",
    "JobState",
    "Later",
    "MachineSpec",
    "NotAllowedError",
    "NotFoundError",
    "ProtectedStateError",
    "Pruned",
    "RecordFailedError",
    "RecordHiddenError",
    "RecordKeptError",
    "Redaction",
    "Retention",
    "RowRefusedError",
    "SchemaError",
    "Selection",
    "Snooze",
    "Sources",
    "Stale",
    "StaleTransitionError",
    "StateJobs",
    "StateJobsError",
    "StatefulResource",
    "SystemClock",
    "Task",
    "TenantMismatchError",
    "Transition",
    "TransitionRefusedError",
    "Trigger",
    "Unhandled",
    "Unique",
    "UnreadableRecordError",
    "UnreadableRowError",
    "UtcDateTime",
    "WaitTimeoutError",
    "WorkerSettings",
    "WrongCallError",
    "WrongValueError",
    "__version__",
    "acting_as",
    "ago",
    "configure_sqlite",
    "everything",
    "guard",
    "increment",
    "mermaid",
    "metadata",
    "next_times",
    "override_state",
    "scheduled_action",
    "set_to",
    "stamp",
    "state_column",
    "task",
    "tenant",
    "transition",
    "utcnow",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())
