"""Query jobs of the Bulk API 2.0, and their results as CSV."""

import base64
import binascii
import csv
import io
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import xxhash

from tests.fakes.exchange import Request, Response
from tests.fakes.salesforce.refusal import RefusedError
from tests.fakes.salesforce.soql import SoqlQuery, stamp_of

if TYPE_CHECKING:
    from tests.fakes.salesforce.service import SalesforceService

_DELIMITERS = {
    "COMMA": ",", "TAB": "\t", "SEMICOLON": ";", "PIPE": "|", "CARET": "^", "BACKQUOTE": "`",
}  # fmt: skip


@dataclass(slots=True)
class Job:
    id: str
    query: SoqlQuery
    operation: str
    delimiter: str
    line_end: str
    created: str
    looks_left: int
    state: str = "UploadComplete"
    error: str | None = None
    lines: list[list[str]] | None = None  # the results, once complete


def create(service: "SalesforceService", request: Request) -> Response:
    body = _body(request)
    operation = body.get("operation")
    if operation not in {"query", "queryAll"}:
        raise RefusedError(400, "INVALIDOPERATION", f"{operation!r} is no operation of query jobs")
    understood = service.org.understand(str(body.get("query", "")))
    if understood.columns is None:
        raise RefusedError(
            400, "FEATURENOTENABLED", "Aggregate functions are not supported in bulk queries"
        )
    if understood.object in service.org.not_in_bulk:
        raise RefusedError(
            400, "INVALIDENTITY", f"Entity '{understood.object}' is not supported by the Bulk API."
        )
    slow = 5 if service.faults.draw("bulk-slow", request) else 0
    service.job_numbers += 1
    job = Job(
        id=f"7505g0{service.job_numbers:09d}AAA",
        query=understood,
        operation=operation,
        delimiter=_DELIMITERS[body.get("columnDelimiter", "COMMA")],
        line_end="\r\n" if body.get("lineEnding") == "CRLF" else "\n",
        created=stamp_of(datetime.now(UTC)),
        looks_left=service.bulk_looks + slow,
    )
    service.jobs[job.id] = job
    return Response.of(_told(job))


def show(service: "SalesforceService", request: Request, job: Job) -> Response:
    """Answer a job's status; every such request advances the job."""
    if job.state in {"UploadComplete", "InProgress"}:
        job.looks_left -= 1
        if job.looks_left < 0:
            _complete(service, request, job)
        elif job.looks_left == 0:
            job.state = "InProgress"
    return Response.of(_told(job))


def change(request: Request, job: Job) -> Response:
    if _body(request).get("state") != "Aborted":
        raise RefusedError(400, "INVALIDJOBSTATE", "a query job can only be aborted")
    job.state = "Aborted"
    return Response.of(_told(job))


def delete(service: "SalesforceService", job: Job) -> Response:
    if job.state in {"UploadComplete", "InProgress"}:
        raise RefusedError(400, "INVALIDJOBSTATE", "abort the job before it is deleted")
    del service.jobs[job.id]
    return Response(204)


def results(service: "SalesforceService", request: Request, job: Job) -> Response:
    """Answer a piece of the results; the last one's locator is `null`."""
    if service.faults.draw("bulk-gone", request):
        del service.jobs[job.id]
        raise gone()
    if job.lines is None:
        raise RefusedError(400, "INVALIDJOBSTATE", "the job is not complete")
    try:
        start = int(base64.b64decode(request.first("locator") or b"MA==", validate=True))
        size = int(request.first("maxRecords") or 50_000)
    except (binascii.Error, ValueError):
        raise RefusedError(400, "INVALIDLOCATOR", "invalid locator") from None
    if service.faults.draw("short-piece", request):
        size = max(1, size // 3)
    end = min(start + size, len(job.lines))
    locator = base64.b64encode(str(end).encode()).decode() if end < len(job.lines) else "null"
    if service.faults.draw("repeated-locator", request) and request.first("locator"):
        locator = request.first("locator")
    text = io.StringIO()
    writer = csv.writer(
        text, delimiter=job.delimiter, lineterminator=job.line_end, quoting=csv.QUOTE_ALL
    )
    writer.writerow([".".join(path) for path in job.query.columns or ()])
    writer.writerows(job.lines[start:end])
    response = Response(200, text.getvalue().encode(), "text/csv;charset=UTF-8")
    response.headers = {
        "Sforce-Locator": locator,
        "Sforce-NumberOfRecords": str(end - start),
    }
    return response


def gone() -> RefusedError:
    return RefusedError(404, "NOT_FOUND", "The requested resource does not exist")


def _body(request: Request) -> dict[str, Any]:
    try:
        body = request.json()
    except msgspec.DecodeError:
        body = None
    if not isinstance(body, dict):
        raise RefusedError(400, "JSON_PARSER_ERROR", "the body is no JSON object")
    return body


def _complete(service: "SalesforceService", request: Request, job: Job) -> None:
    if service.faults.draw("bulk-failed", request):
        job.state = "Failed"
        job.error = "QUERY_TIMEOUT: Your query request was running for too long."
        return
    if service.faults.draw("bulk-aborted", request):
        job.state = "Aborted"
        return
    with service.org.lock:
        rows = service.org.select(job.query, everything=job.operation == "queryAll")
        if not job.query.order:
            # Chunks are read side by side: nothing may be thought of the order.
            rows.sort(key=lambda row: xxhash.xxh3_64_intdigest(str(row["Id"]).encode()))
        name = job.query.object
        job.lines = [
            [_text(service.org.value(name, row, path)) for path in job.query.columns or ()]
            for row in rows
        ]
    job.state = "JobComplete"


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    # REST writes +0000, the Bulk API Z.
    return (
        str(value).removesuffix("+0000") + "Z" if str(value).endswith(".000+0000") else str(value)
    )


def _told(job: Job) -> dict[str, Any]:
    reported: dict[str, Any] = {
        "id": job.id,
        "operation": job.operation,
        "object": job.query.object,
        "createdById": "0055g0000000001AAA",
        "createdDate": job.created,
        "systemModstamp": job.created,
        "state": job.state,
        "concurrencyMode": "Parallel",
        "contentType": "CSV",
        "apiVersion": 59.0,
        "lineEnding": "LF" if job.line_end == "\n" else "CRLF",
        "columnDelimiter": next(k for k, v in _DELIMITERS.items() if v == job.delimiter),
    }
    if job.error:
        reported["errorMessage"] = job.error
    if job.lines is not None:
        reported |= {
            "jobType": "V2Query",
            "numberRecordsProcessed": len(job.lines),
            "retries": 0,
            "totalProcessingTime": 12,
        }
    return reported
