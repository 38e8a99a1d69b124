"""Every name that two processes must agree on."""

from datetime import datetime

QUEUER_TASK_QUEUE = "etl-queuer-queue"
WORKER_TASK_QUEUE = "etl-worker-queue"

QUEUER_FLOW = "QueuerFlow"
DISPATCH_FLOW = "DispatchFlow"
ETL_FLOW = "ETLFlow"

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
RUN_SEGMENT = "run_segment"
END_JOB = "end_job"


def schedule_id(source: str) -> str:
    """The one schedule a source has; creating it again updates it."""
    return f"etl-schedule-{source}"


def scheduled_workflow_id(source: str) -> str:
    """The id a schedule's runs start with; the server appends the nominal time."""
    return f"etl-{source}"


def run_workflow_id(source: str, mode: str, started: datetime) -> str:
    """The id of a run that a person asked for; distinct for every microsecond."""
    return f"etl-{source}-{mode}-{started:%Y%m%dT%H%M%S.%fZ}"


def engine_run_id(source: str, mode: str, nominal: datetime) -> str:
    """In place of a workflow's id, where a process runs a batch by itself."""
    return f"engine/{source}-{mode}-{nominal:%Y%m%dT%H%M%S.%fZ}"


def dispatch_workflow_id(batch_id: str, shard: int) -> str:
    return f"{batch_id}/dispatch-{shard}"


def segment_queue(worker_queue: str, source: str) -> str:
    """The task queue of a source whose requests are budgeted."""
    return f"{worker_queue}-{source}"


def job_workflow_id(job_id: str) -> str:
    """Derives from the job alone, so that the same job cannot run twice at once."""
    return f"job/{job_id}"
