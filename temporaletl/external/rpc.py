"""Calls of Temporal as a source, counted among the requests to sources."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from temporalio.service import RPCError, RPCStatusCode

from temporaletl.telemetry.metrics import RequestOutcome, note_request

_OUTCOMES: dict[RPCStatusCode, RequestOutcome] = {
    RPCStatusCode.RESOURCE_EXHAUSTED: "rate_limited",
    RPCStatusCode.UNAVAILABLE: "no_answer",
    RPCStatusCode.DEADLINE_EXCEEDED: "no_answer",
    RPCStatusCode.CANCELLED: "no_answer",
    RPCStatusCode.INTERNAL: "server_error",
    RPCStatusCode.UNKNOWN: "server_error",
    RPCStatusCode.DATA_LOSS: "server_error",
}


@contextmanager
def counted_call() -> Iterator[None]:
    """Count the call in the block, by how it was answered."""
    began = perf_counter()
    outcome: RequestOutcome = "no_answer"
    try:
        yield
        outcome = "ok"
    except RPCError as error:
        outcome = _OUTCOMES.get(error.status, "client_error")
        raise
    finally:
        note_request(outcome, perf_counter() - began)
