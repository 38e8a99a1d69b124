"""The platform's own metrics, each declared once: what is counted, measured and shown.

    metrics.rows.add(20, source="jira", connection="acme", stream="issues", outcome="inserted")

Labels are names that people have chosen (source, connection, stream, pipeline) or a fixed list; an
id, an address or a text never is one. Those under "The warehouse's" are what one process, the
API's, reads for all; every other is of the process that exposes it.
"""

from collections.abc import Mapping
from typing import Literal

from temporaletl.bound_connection import binding
from temporaletl.telemetry.instruments import LONG_SECONDS, Counter, Gauge, Histogram, Registry

registry = Registry()

_OF_SOURCE = ("source", "connection")
_OF_STREAM = (*_OF_SOURCE, "stream")

RequestOutcome = Literal["ok", "rate_limited", "client_error", "server_error", "no_answer"]

build_info = registry.declare(
    Gauge("etl_build_info", "1, for the version of this process.", ("service", "version"))
)

# Runs and jobs.
batches = registry.declare(
    Counter("etl_batches_total", "Runs that have ended.", (*_OF_SOURCE, "mode", "outcome"))
)
batch_duration = registry.declare(
    Histogram(
        "etl_batch_duration_seconds",
        "How long runs took, from their beginning to their end.",
        (*_OF_SOURCE, "mode"),
        LONG_SECONDS,
    )
)
jobs = registry.declare(
    Counter("etl_jobs_total", "Jobs that have ended.", (*_OF_STREAM, "outcome"))
)
lost_runs = registry.declare(
    Counter(
        "etl_lost_runs_total", "Runs that were ended because their workflow was lost.", _OF_SOURCE
    )
)
attempt_failures = registry.declare(
    Counter(
        "etl_attempt_failures_total",
        "Attempts of activities, or of a local engine's work, that failed, by the error's class.",
        ("work", *_OF_SOURCE, "error"),
    )
)

# Pages and rows.
pages = registry.declare(Counter("etl_pages_total", "Pages that were committed.", _OF_STREAM))
page_duration = registry.declare(
    Histogram(
        "etl_page_duration_seconds",
        "How long the stages of a page took: extract, transform, load.",
        (*_OF_SOURCE, "stage"),
    )
)
pages_superseded = registry.declare(
    Counter(
        "etl_pages_superseded_total",
        "Pages that were given up because another attempt had committed them.",
        _OF_SOURCE,
    )
)
rows = registry.declare(
    Counter("etl_rows_total", "Rows of committed pages, by outcome.", (*_OF_STREAM, "outcome"))
)
rejects = registry.declare(
    Counter("etl_rejects_total", "Records that could not become rows.", (*_OF_STREAM, "stage"))
)
extracted_bytes = registry.declare(
    Counter("etl_extracted_bytes_total", "Bytes of sources' answers, decompressed.", _OF_SOURCE)
)
loaded_bytes = registry.declare(
    Counter(
        "etl_loaded_bytes_total", "Bytes of rows, as they were sent to the warehouse.", _OF_STREAM
    )
)

# Requests to sources.
source_requests = registry.declare(
    Counter("etl_source_requests_total", "Requests to sources.", (*_OF_SOURCE, "outcome"))
)
source_request_duration = registry.declare(
    Histogram(
        "etl_source_request_duration_seconds",
        "How long sources took to answer, their whole answers.",
        _OF_SOURCE,
    )
)
source_retries = registry.declare(
    Counter("etl_source_retries_total", "Requests that failed and were sent again.", _OF_SOURCE)
)
source_wait = registry.declare(
    Histogram(
        "etl_source_wait_duration_seconds",
        "Waits before a request: for the rate limit, a Retry-After, a retry, or in a timer.",
        (*_OF_SOURCE, "reason"),
    )
)

# The warehouse, as this process finds it.
warehouse_connections = registry.declare(
    Gauge(
        "etl_warehouse_connections",
        "Connections of this process's pool: used, idle, and requests that wait for one.",
        ("state",),
    )
)
warehouse_errors = registry.declare(
    Counter("etl_warehouse_errors_total", "Errors of the warehouse, by kind.", ("kind",))
)
payload_decode_failures = registry.declare(
    Counter(
        "etl_payload_decode_failures_total",
        "Encrypted payloads and results that could not be decrypted.",
        ("reason",),
    )
)

# Pipelines.
executions = registry.declare(
    Counter("etl_executions_total", "Executions of pipelines that ended.", ("pipeline", "outcome"))
)
node_attempts = registry.declare(
    Counter("etl_node_attempts_total", "Attempts of pipelines' nodes.", ("type", "outcome"))
)
node_failures = registry.declare(
    Counter(
        "etl_node_failures_total", "Attempts of nodes that failed, by error.", ("type", "error")
    )
)
node_duration = registry.declare(
    Histogram("etl_node_duration_seconds", "How long attempts of nodes took.", ("type",))
)

# The HTTP API.
api_requests = registry.declare(
    Counter(
        "etl_api_requests_total",
        "Requests that the API and the dashboard answered.",
        ("method", "route", "status"),
    )
)
api_request_duration = registry.declare(
    Histogram(
        "etl_api_request_duration_seconds",
        "How long the API took to answer; a stream of events, how long it stayed open.",
        ("route",),
    )
)

# The warehouse's, read by the API for all processes.
warehouse_up = registry.declare(
    Gauge("etl_warehouse_up", "1 where the values below were read, 0 where they could not be.")
)
watermark = registry.declare(
    Gauge("etl_watermark_timestamp_seconds", "Up to when a stream is loaded.", _OF_STREAM)
)
last_success = registry.declare(
    Gauge(
        "etl_last_success_timestamp_seconds",
        "When a run last loaded all of its window of a stream.",
        _OF_STREAM,
    )
)
freshness_objective = registry.declare(
    Gauge("etl_freshness_objective_seconds", "How old a stream may become.", _OF_STREAM)
)
stream_late = registry.declare(
    Gauge("etl_stream_late", "1 where a stream is late, as `etl freshness` says.", _OF_STREAM)
)
batches_open = registry.declare(
    Gauge("etl_batches_open", "Runs that have not ended.", (*_OF_SOURCE, "state"))
)
jobs_open = registry.declare(
    Gauge(
        "etl_jobs_open",
        "Jobs of open runs: running, waiting, paused.",
        (*_OF_SOURCE, "state"),
    )
)
oldest_waiting = registry.declare(
    Gauge("etl_oldest_waiting_seconds", "How long the job waits that waits longest; 0: none does.")
)
cool_down = registry.declare(
    Gauge("etl_cool_down_seconds", "For how long a source is not asked any more.", _OF_SOURCE)
)
rejects_kept = registry.declare(
    Gauge("etl_rejects_kept", "Rejects in the warehouse that no replay has solved.", _OF_STREAM)
)
table_bytes = registry.declare(
    Gauge("etl_table_bytes", "Size of a table with its indexes and partitions.", ("table",))
)
table_rows = registry.declare(
    Gauge("etl_table_rows", "Rows of a table, as PostgreSQL estimates them.", ("table",))
)

WAREHOUSE_ERRORS = ("unavailable", "overloaded", "contended", "refused")
DECODE_FAILURES = ("missing_key", "undecryptable")


def begin(service: str, version: str) -> None:
    """Make known what this process is, and zeros of which the first increase counts.

    Safe to repeat.
    """
    build_info.set(1, service=service, version=version)
    for kind in WAREHOUSE_ERRORS:
        warehouse_errors.add(0, kind=kind)
    for reason in DECODE_FAILURES:
        payload_decode_failures.add(0, reason=reason)


def of_source() -> Mapping[str, str] | None:
    """The labels of the connection that is bound to this context; None where none is."""
    found = binding()
    return None if found is None else {"source": found.source, "connection": found.connection}


def note_request(outcome: RequestOutcome, seconds: float, received_bytes: int = 0) -> None:
    """Count a request to the source that is bound to this context; of none, nothing."""
    if (source := of_source()) is not None:
        source_requests.add(1, outcome=outcome, **source)
        source_request_duration.observe(seconds, **source)
        extracted_bytes.add(received_bytes, **source)


def note_retry() -> None:
    """Count a request to the bound source that is sent again."""
    if (source := of_source()) is not None:
        source_retries.add(1, **source)


def note_node(kind: str, outcome: str, seconds: float) -> None:
    """Count an attempt of a pipeline's node."""
    node_attempts.add(1, type=kind, outcome=outcome)
    node_duration.observe(seconds, type=kind)


def note_attempt_failure(work: str, run: Mapping[str, str], error: Exception) -> None:
    """Count an attempt that failed; `run` may name its source and connection."""
    attempt_failures.add(
        1,
        work=work,
        source=run.get("source", ""),
        connection=run.get("connection", ""),
        error=type(error).__name__,
    )


def note_wait(reason: Literal["budget", "retry_after", "retry", "timer"], seconds: float) -> None:
    """Note that the bound source is not asked for so long, and why."""
    if seconds > 0 and (source := of_source()) is not None:
        source_wait.observe(seconds, reason=reason, **source)
