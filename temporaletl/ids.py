"""Ids of batches and jobs: of the same request, and of the same slice, always the same."""

import hashlib
import json
from typing import NamedTuple

from temporaletl.messages import ETLInput, MetadataRequest
from temporaletl.names import label

_encode = json.JSONEncoder(sort_keys=True).encode


def batch_id_of(requested: MetadataRequest) -> str:
    """Name the batch of a request: the same one, however often it is resolved."""
    request = requested.input
    run = f"{requested.workflow_id} {requested.run_id}"
    return (
        f"{label(request.source, request.connection)}-{request.mode}-"
        f"{requested.nominal:%Y%m%dT%H%M%SZ}-{_digest(run, size=4)}"
    )


class Coverage(NamedTuple):
    """A job's window and parameters as JSON in ASCII, of which its id is made."""

    window: str
    params: str


def coverage_of(job: ETLInput) -> Coverage:
    # Encoded at once, which costs half: the first brace that closes is the window's.
    both = _encode([job.window.model_dump(mode="json"), job.params])
    end = both.index("}") + 1
    return Coverage(both[1:end], both[end + len(", ") : -1])


def job_id_of(job: ETLInput, coverage: Coverage | None = None) -> str:
    """Name a job by what it covers: source, stream, mode, connection, window and parameters.

    `coverage` is the job's, where it is at hand.
    """
    parts = [_encode(job.connection), *(coverage or coverage_of(job))]
    parts += ['"scan"'] if job.scan else ['"reread"'] if job.reread else []
    # As one list in JSON, as ever: a job that runs elsewhere is known by its id.
    covers = f"[{', '.join(parts)}]"
    return f"{label(job.source, job.connection)}-{job.stream}-{job.mode}-{_digest(covers, size=8)}"


def _digest(text: str, *, size: int) -> str:
    return hashlib.blake2b(text.encode(), digest_size=size).hexdigest()
