"""Messages that travel through Temporal: frozen, typed, small, free of rows and secrets.

Unknown fields are ignored and new fields get defaults, so that a worker of one version reads
what another version wrote. Times are aware and in UTC; windows are half-open.
"""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

from temporaletl.secrets import redacted

#: `replay` reprocesses a source's rejects: they go through the present transform, without a window.
Mode = Literal["incremental", "full", "backfill", "replay"]
BatchState = Literal["running", "completed", "failed", "cancelled"]
#: `pausing` and `cancelling` are on the way to the next page: only a job's workflow says so.
JobState = Literal[
    "planned",
    "running",
    "pausing",
    "paused",
    "cancelling",
    "completed",
    "failed",
    "cancelled",
    "skipped",
]
#: States of a run or a job that has not ended.
OpenState = Literal["planning", "running", "pausing", "paused", "cancelling", "finishing"]

#: Final states of a job.
ENDED: frozenset[JobState] = frozenset({"completed", "failed", "cancelled", "skipped"})


def _as_utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        msg = "must carry a time zone"
        raise ValueError(msg)
    try:
        return value.astimezone(UTC)
    except OverflowError:
        msg = "lies outside of the years that UTC can have here"
        raise ValueError(msg) from None


#: A NUL as JSON writes it; an even number of backslashes before it is another text.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def _as_json(params: dict[str, JsonValue]) -> dict[str, JsonValue]:
    try:
        text = json.dumps(params, allow_nan=False)
    except ValueError:
        msg = "a number of it is none of JSON"
        raise ValueError(msg) from None
    if _NUL.search(text):
        msg = "a text of it holds a NUL, which no warehouse can keep"
        raise ValueError(msg)
    return params


UtcTime = Annotated[datetime, AfterValidator(_as_utc)]
#: The text of an error, which may quote anything: secrets are removed on validation.
ErrorText = Annotated[str, AfterValidator(redacted)]


class Message(BaseModel):
    """Base of all messages."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Window(Message):
    """A half-open span of UTC time: `start` inclusive, `end` exclusive, None unbounded.

    Times without a zone, and a start after the end, are refused with a ValueError.

        may = Window(start=datetime(2024, 5, 1, tzinfo=UTC), end=datetime(2024, 6, 1, tzinfo=UTC))
        assert datetime(2024, 5, 31, tzinfo=UTC) in may
        assert datetime(2024, 6, 1, tzinfo=UTC) not in may
    """

    start: UtcTime | None = None
    end: UtcTime | None = None

    @model_validator(mode="after")
    def _ordered(self) -> "Window":
        if self.start is not None and self.end is not None and self.start > self.end:
            msg = f"window starts at {self.start.isoformat()}, after its end {self.end.isoformat()}"
            raise ValueError(msg)
        return self

    def __contains__(self, timestamp: datetime) -> bool:
        return (self.start is None or self.start <= timestamp) and (
            self.end is None or timestamp < self.end
        )


class RunPolicy(Message):
    """Timeouts and retries of one batch's activities, from the queuer's settings."""

    activity_timeout: timedelta = timedelta(minutes=10)
    heartbeat_timeout: timedelta = timedelta(seconds=20)
    max_attempts: int = 20  # in a row without progress, those in an outage not counted
    initial_interval: timedelta = timedelta(seconds=1)
    backoff_coefficient: float = 2.0
    maximum_interval: timedelta = timedelta(minutes=1)
    job_timeout: timedelta | None = None


class QueuerInput(Message):
    """The request for a run, from a schedule or a person: the input of QueuerFlow."""

    source: str
    mode: Mode = "incremental"
    streams: tuple[str, ...] = ()  # none named: every stream of the source
    date_start: UtcTime | None = None  # inclusive; backfill only
    date_end: UtcTime | None = None  # exclusive; backfill only
    connection: str = "default"
    params: Annotated[dict[str, JsonValue], AfterValidator(_as_json)] = Field(default_factory=dict)
    max_in_flight: int = Field(default=50, ge=1, le=1000)
    accept_view: bool = False  # what the account sees now is all there is
    notify: bool = True  # whether its end is notified
    #: Of mode `replay`: the ids of the rejects to reprocess; none named: all of the streams.
    rejects: tuple[int, ...] = ()
    retries: str | None = None  # the batch whose failed jobs it runs, and nothing else
    schedule: str | None = None  # its name, where one starts it
    only: bool = False  # skipped where another run loads the same already


class MetadataRequest(Message):
    """The request to resolve a batch; `nominal` is its scheduled time, or when it was started."""

    input: QueuerInput
    nominal: UtcTime
    workflow_id: str
    run_id: str


class BatchMetadata(Message):
    """A batch as it is resolved, once, before any job is planned: windows, filters, policy."""

    batch_id: str
    source: str
    mode: Mode
    connection: str
    windows: dict[str, Window]  # by stream
    params: dict[str, JsonValue] = Field(default_factory=dict)
    max_in_flight: int = 50
    accept_view: bool = False
    notify: bool = True
    rejects: tuple[int, ...] = ()
    retries: str | None = None
    policy: RunPolicy = RunPolicy()
    worker_queue: str
    segment_queue: str | None = None  # None: the worker queue
    started: UtcTime
    #: The filters by their names, those of settings and parameters; None in batches of before.
    scope: dict[str, JsonValue] | None = None
    #: Those of settings alone: what a run without filters of its own covers.
    whole_scope: dict[str, JsonValue] | None = None

    @property
    def is_filtered(self) -> bool:
        """Whether its parameters leave out something that other runs load."""
        return self.scope != self.whole_scope


class ExpandedBatch(Message):
    jobs: int
    #: All of them, where they are few: their dispatcher then need not list them.
    few: "tuple[ETLInput, ...] | None" = None


_SCAN_TIMEOUT = timedelta(hours=2)


class ETLInput(Message):
    """One job: a slice of one stream of one source, in one batch.

    `job_id` names the slice and stays the same when a later batch plans the same slice;
    `(batch_id, seq)` names this execution of it, and is the key of its ledger row. A source makes
    its jobs with `Plan.job`; a test may make its own:

        job = ETLInput(
            batch_id="test", seq=0, job_id="", source="shop", stream="orders", mode="full",
            window=Window(end=datetime(2024, 6, 1, tzinfo=UTC)), params={"region": "north"},
        )
    """

    batch_id: str
    seq: int
    job_id: str
    source: str
    stream: str
    mode: Mode
    connection: str = "default"
    window: Window = Window()
    params: dict[str, JsonValue] = Field(default_factory=dict)
    policy: RunPolicy = RunPolicy()
    segment_queue: str | None = None  # where its segments are run; None: where the flow is
    paused: bool = False  # carried over when the flow continues as new
    scan: bool = False  # a deletion scan: see temporaletl.deletions
    reread: bool = False  # a second reading of unread items: see temporaletl.rereading

    @property
    def windowless(self) -> bool:
        """Whether it covers no part of the batch's window, so that no watermark waits for it."""
        return self.scan or self.reread

    @property
    def segment_timeout(self) -> timedelta:
        """How long one segment of it may take, before Temporal gives it up without an error.

        A list that cannot be taken up in the middle is read to its end in one segment.
        """
        timeout = self.policy.activity_timeout
        return max(timeout, _SCAN_TIMEOUT) if self.scan else timeout


class RowCounts(Message):
    """Rows by outcome: each row counts once, in exactly one of these."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0


class JobProgress(Message):
    """Progress of a job, from its ledger row; the answer to ETLFlow's `status` query."""

    state: JobState
    stream: str
    pages: int = 0  # transactions committed
    records: int = 0  # records extracted
    rejected_records: int = 0  # those of which something was rejected
    rows: RowCounts = RowCounts()
    deleted: int = 0  # rows loaded before that the source no longer has
    #: Where extraction goes on, escaped by `temporaletl.warehouse.cursors`; None at the beginning.
    cursor: JsonValue = None
    error: ErrorText | None = None
    note: ErrorText | None = None  # what a person should know, though nothing failed
    conflicting: int = 0  # rows with the key of another row of the job, and another content
    conflicting_at_once: int = 0  # those of them that one extracted page held
    conflict: ErrorText | None = None  # the first of them


class SegmentResult(Message):
    """Result of a segment. `wait` is the cool-down of the source before the next one."""

    progress: JobProgress
    done: bool
    wait: timedelta | None = None


class EndJobRequest(Message):
    job: ETLInput
    state: JobState
    error: ErrorText | None = None

    @property
    def policy(self) -> RunPolicy:
        return self.job.policy


class ETLResult(Message):
    """Result of a job; returned for `completed` and `cancelled`, failures are raised."""

    job_id: str
    progress: JobProgress


class JobsRequest(Message):
    """The request for the jobs of a batch with first <= seq < end that have not ended."""

    batch_id: str
    first: int
    end: int
    policy: RunPolicy = RunPolicy()


class JobsPage(Message):
    jobs: tuple[ETLInput, ...]
    next: int  # seq to go on from; equal to the request's end when there are no more


class JobOutcome(Message):
    """End of a job, reported by its dispatcher where the job itself could not."""

    seq: int
    state: JobState
    error: ErrorText | None = None


class OutcomesRequest(Message):
    batch_id: str
    outcomes: tuple[JobOutcome, ...]
    policy: RunPolicy = RunPolicy()


class DispatchInput(Message):
    """A dispatcher's share of a batch: jobs with first <= seq < end."""

    metadata: BatchMetadata
    first: int
    end: int
    max_in_flight: int
    paused: bool = False  # carried over when the flow continues as new
    jobs: tuple[ETLInput, ...] | None = None  # those of its share that are open; None: to be listed


class JobCounts(Message):
    planned: int = 0
    completed: int = 0
    failed: int = 0
    skipped: int = 0  # the same job was already running for another batch
    cancelled: int = 0  # cancelled while running, or never started


class JobFailure(Message):
    job: str
    error: ErrorText


class JobNote(Message):
    """Note of a job that did not fail, for a person to read."""

    job: str
    note: ErrorText


class FinishRequest(Message):
    metadata: BatchMetadata
    workflow_id: str
    cancelled: bool = False
    error: ErrorText | None = None  # why the batch could not be planned or dispatched

    @property
    def policy(self) -> RunPolicy:
        return self.metadata.policy


class BatchStatus(Message):
    """The answer to QueuerFlow's `status` query.

    A run is `pausing` while a job of it still runs, or while its jobs are still being planned.
    """

    state: OpenState
    batch_id: str | None = None
    jobs: int | None = None  # None until planned
    #: Of a run that is pausing or paused: jobs that still run; None until that is known.
    jobs_running: int | None = None


class BatchSummary(Message):
    """Summary of a batch that ended; also the JSON document of `etl run --wait --json`."""

    batch_id: str
    workflow_id: str
    source: str = ""
    connection: str = "default"
    mode: Mode = "incremental"
    retries: str | None = None  # the batch whose failed jobs it ran
    windows: dict[str, Window] = Field(default_factory=dict)  # by stream
    state: BatchState
    seconds: float
    jobs: JobCounts = JobCounts()
    rows: RowCounts = RowCounts()
    deleted: int = 0  # rows loaded before that the source no longer has
    conflicting: int = 0  # rows with the key of another row of the job, and another content
    records: int = 0
    failures: tuple[JobFailure, ...] = ()  # the first hundred; `jobs.failed` counts all
    notes: tuple[JobNote, ...] = ()  # the first hundred
    error: ErrorText | None = None
