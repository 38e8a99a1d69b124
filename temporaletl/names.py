"""Names that two processes must agree on: queues, workflows, updates, signals, activities, ids."""

import re
from datetime import datetime
from typing import NamedTuple

from temporaletl.bound_connection import DEFAULT

#: The schedule of a connection that is given no name.
DEFAULT_SCHEDULE = "default"

QUEUER_TASK_QUEUE = "etl-queuer-queue"
WORKER_TASK_QUEUE = "etl-worker-queue"

QUEUER_FLOW = "QueuerFlow"
DISPATCH_FLOW = "DispatchFlow"
ETL_FLOW = "ETLFlow"
PIPELINE_FLOW = "WorkflowExecution"
VALIDATION_FLOW = "WorkflowValidation"
CHECK_FLOW = "CheckFlow"

#: The source of what executions load; schedules of stored pipelines are of it, too.
PIPELINE = "pipeline"

# Updates, and the signals that do the same.
PAUSE = "pause"
RESUME = "resume"
CANCEL = "cancel"
STATUS = "status"

GET_METADATA = "get_metadata"
EXPAND_JOBS = "expand_jobs"
LIST_JOBS = "list_jobs"
RECORD_OUTCOMES = "record_outcomes"
FINISH_BATCH = "finish_batch"
NOTIFY = "notify"
RECORD_CONTROL = "record_control"
RUN_SEGMENT = "run_segment"
END_JOB = "end_job"
PAUSE_JOB = "pause_job"
CHECK_SERVICE = "check_service"

# Of pipelines.
CANCEL_WORKFLOW = "cancel_workflow"
DECIDE = "decide"
GET_STATUS = "get_status"
BEGIN_EXECUTION = "begin_execution"
RUN_NODE = "run_node"
CLOSE_NODE = "close_node"
FAIL_NODE = "fail_node"
RUN_CHUNK = "run_chunk"
END_EXECUTION = "end_execution"
VALIDATE_PIPELINE = "validate_pipeline"

# Type of the failure of a run that another engine executes.
SUPERSEDED = "SupersededRunError"
# Type of the failure of a scheduled run that another run makes needless.
SKIPPED = "SkippedRunError"


def label(source: str, connection: str = DEFAULT) -> str:
    """How ids and messages name a source's connection: `jira`, and `jira@acme`.

    Neither name can have the sign, so that no two labels are the same.
    """
    return source if connection == DEFAULT else f"{source}@{connection}"


def parse_label(text: str) -> tuple[str, str]:
    """The source and the connection that a label stands for."""
    source, _, connection = text.partition("@")
    return source, connection or DEFAULT


def connection_option(connection: str) -> str:
    """What a command line needs behind a source's name; empty for `default`."""
    return "" if connection == DEFAULT else f" --connection {connection}"


class ScheduleKey(NamedTuple):
    """A schedule: one of those of a source's connection, or of a stored pipeline.

    A pipeline's has the source `pipeline`, and the pipeline's name in place of a connection's.
    """

    source: str
    connection: str = DEFAULT
    name: str = DEFAULT_SCHEDULE

    @property
    def label(self) -> str:
        """How ids and messages name it: `jira`, `jira@acme`, and `jira@acme:nightly`."""
        whose = label(self.source, self.connection)
        return whose if self.name == DEFAULT_SCHEDULE else f"{whose}:{self.name}"

    @property
    def pipeline(self) -> str | None:
        """The stored pipeline that it executes; None where it syncs a connection."""
        return self.connection if self.source == PIPELINE else None

    def command(self, verb: str) -> str:
        """The command that does something to it: `etl schedule-pause jira nightly`."""
        name = "" if self.name == DEFAULT_SCHEDULE else f" {self.name}"
        if self.pipeline is not None:
            return f"etl pipeline {verb} {self.pipeline}{name}"
        return f"etl {verb} {self.source}{name}{connection_option(self.connection)}"

    @property
    def id(self) -> str:
        """Its id in Temporal; creating it again updates it."""
        return f"{SCHEDULE_PREFIX}{self.label}"

    @property
    def workflow_id(self) -> str:
        """The id its runs start with; the server appends the scheduled time."""
        return f"{SCHEDULED_RUN_PREFIX}{self.label}"

    @classmethod
    def of_id(cls, schedule_id: str) -> "ScheduleKey":
        """The schedule of an id in Temporal."""
        whose, _, name = schedule_id.removeprefix(SCHEDULE_PREFIX).partition(":")
        return cls(*parse_label(whose), name or DEFAULT_SCHEDULE)


SCHEDULE_PREFIX = "etl-schedule-"
SCHEDULED_RUN_PREFIX = "etl-"
_SCHEDULE_NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
_LONGEST_SCHEDULE_NAME = 50
#: They would be taken for days at which it runs.
_WEEKDAYS = re.compile(r"((mon|tue|wed|thu|fri|sat|sun)([a-z]*day)?-?)+")


def is_schedule_name(text: str) -> bool:
    """Whether a schedule may have that name: lower-case words, and none for a day."""
    fits = _SCHEDULE_NAME.fullmatch(text) and len(text) <= _LONGEST_SCHEDULE_NAME
    return bool(fits) and not _WEEKDAYS.fullmatch(text)


def run_workflow_id(source: str, mode: str, started: datetime, connection: str = DEFAULT) -> str:
    """The id of a run that a person started; distinct for every microsecond."""
    return f"etl-{label(source, connection)}-{mode}-{started:%Y%m%dT%H%M%S.%fZ}"


def engine_run_id(source: str, mode: str, scheduled: datetime, connection: str = DEFAULT) -> str:
    """The id of a run in the engine, in place of a workflow's; `scheduled` is in UTC."""
    return f"engine/{label(source, connection)}-{mode}-{scheduled:%Y%m%dT%H%M%S.%fZ}"


def dispatch_workflow_id(batch_id: str, shard: int) -> str:
    return f"{batch_id}/dispatch-{shard}"


def segment_queue(worker_queue: str, source: str) -> str:
    """The task queue of a source whose requests are budgeted, for all its connections."""
    return f"{worker_queue}-{source}"


def execution_workflow_id(execution_id: str) -> str:
    """The id of an execution's workflow, so that the same execution cannot run twice at once."""
    return f"pipeline/{execution_id}"


def check_workflow_id(source: str, connection: str, service: str, nonce: str) -> str:
    """The id of a check of a service, distinct by the nonce."""
    return f"etl-check-{label(source, connection)}-{service}-{nonce}"


def job_workflow_id(job_id: str) -> str:
    """Derives from the job alone, so that the same job cannot run twice at once."""
    return f"job/{job_id}"
