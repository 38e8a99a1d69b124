"""The Bulk API 2.0: a query as a job of Salesforce's own, its results fetched piece by piece."""

import csv
import io
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import requests

from temporaletl import PermanentError
from temporaletl.external.answers import (
    GarbledAnswerError,
    in_words,
    reading,
    text_of,
)
from temporaletl.external.exchange import AnswerTooLargeError
from temporaletl.external.salesforce.org import SalesforceOrg
from temporaletl.external.salesforce.query import Selection, probe, with_seen_columns
from temporaletl.telemetry.logs import get_logger

log = get_logger("salesforce")

#: States in which a job has not ended.
_UNDER_WAY = frozenset({"UploadComplete", "InProgress"})
#: A number of rows, and not whatever else `int` or `str.isdigit` take for one.
_COUNT = re.compile(r"[0-9]{1,18}")
#: What Salesforce says of a job that failed at a row, and not at the query.
_FAILED_AT_A_ROW = ("UNKNOWN_EXCEPTION", "InternalServerError")

# Salesforce's longest text areas have 131,072 characters, which is also where csv ends.
csv.field_size_limit(2**31 - 1)


class BulkJobFailedError(PermanentError):
    """Salesforce gave up a bulk query, or somebody ended it."""


class BulkJobBrokeError(BulkJobFailedError):
    """Salesforce gave up a bulk query for an error of its own: REST may get around it."""


@dataclass(frozen=True, slots=True)
class UnreadableRow:
    """A row of a result that cannot be read: its line as it came, and the reason."""

    line: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of a result, as texts by field; `locator` leads to the next piece, None to none."""

    rows: Sequence[dict[str, Any] | UnreadableRow]
    locator: str | None


class _Job(msgspec.Struct, rename="camel"):
    id: str
    state: str
    object: str | None = None
    error_message: str | None = None
    #: Reported of complete jobs only.
    number_records_processed: int | None = None


_jobs = reading(_Job, source="salesforce")


class BulkQueries:
    """The bulk queries of one org. Every call blocks, and is safe to repeat."""

    def __init__(self, org: SalesforceOrg, stop: threading.Event) -> None:
        self._org = org
        self._path = f"{org.api}/jobs/query"
        self._stop = stop

    def create(self, selection: Selection) -> str:
        """Begin a query and return its job's id; one that is begun twice is done twice.

        Raises:
            NotInBulkError: the Bulk API does not have the object.
            ETLError: as `temporaletl.external.salesforce.query.probe`.
        """
        # What a user may not see, the job would report only at its end.
        probe(self._org, selection, self._stop)

        def begin(columns: Sequence[str]) -> _Job:
            # No order: Salesforce divides only unordered queries, and large ones need it.
            wanted = {
                "operation": selection.path,
                "query": selection.soql(columns),
                "contentType": "CSV",
                "columnDelimiter": "COMMA",
                "lineEnding": "LF",
            }
            return self._org.request(
                "POST",
                self._path,
                read=_jobs,
                about=selection.object,
                json=wanted,
                stop=self._stop,
            )

        return with_seen_columns(self._org, selection, begin).id

    def is_complete(self, job_id: str) -> bool:
        """Return whether the results are there.

        Raises:
            BulkJobFailedError: there will be none.
            GoneError: there is no such job, or no longer.
        """
        job = self._job(job_id)
        if job.state == "JobComplete":
            return True
        if job.state in _UNDER_WAY:
            return False
        why = job.error_message or "Salesforce does not say why"
        broke = any(code in why for code in _FAILED_AT_A_ROW)
        raise (BulkJobBrokeError if broke else BulkJobFailedError)(
            f"salesforce: bulk query {job_id} for {job.object} ended as {job.state}: {why}; "
            "load shorter windows (a backfill by parts), or raise SF_BULK_ABOVE_ROWS so that "
            "REST reads them"
        )

    def rows_in(self, job_id: str) -> int:
        """Return how many rows a complete job has."""
        return self._job(job_id).number_records_processed or 0

    def _job(self, job_id: str) -> _Job:
        return self._org.request("GET", f"{self._path}/{job_id}", read=_jobs, stop=self._stop)

    def abort(self, job_id: str) -> None:
        """End a query that nobody waits for any more."""
        self._org.request(
            "PATCH",
            f"{self._path}/{job_id}",
            read=_jobs,
            json={"state": "Aborted"},
            stop=self._stop,
        )

    def piece(self, job_id: str, object_name: str, locator: str | None, size: int) -> Piece:
        """Fetch the next rows of a complete job; fewer than `size` where they are large.

        Raises:
            SourceUnavailableError: fewer rows came than the answer says it has.
            GoneError: the results are no longer there.
            SourceProtocolError: the answer is no result.
        """
        while True:
            params: dict[str, Any] = {"maxRecords": size}
            if locator is not None:
                params["locator"] = locator
            try:
                return self._org.request(
                    "GET",
                    f"{self._path}/{job_id}/results",
                    read=lambda response: _piece(response, job_id, object_name),
                    about=object_name,
                    params=params,
                    stop=self._stop,
                )
            except AnswerTooLargeError:
                if size == 1:
                    raise
                size = max(1, size // 2)
                log.info("salesforce_piece_narrowed", job=job_id, rows=size)


def _piece(response: requests.Response, job_id: str, object_name: str) -> Piece:
    """Read an answer with results.

    Raises:
        GarbledAnswerError: it broke off, or is none.
        MisfitAnswerError: it does not say how many rows it has.
    """
    what = f"salesforce: the results of bulk query {job_id}"
    reported = response.headers.get("Sforce-NumberOfRecords", "")
    if not _COUNT.fullmatch(reported) or "Sforce-Locator" not in response.headers:
        # An empty body, and a page of HTML, are met here as well.
        raise GarbledAnswerError(f"{what} came without their number, or without a locator")
    rows = _rows(text_of(response), object_name, what)
    if len(rows) != int(reported):
        raise GarbledAnswerError(f"{what} came as {len(rows)} rows, not the {reported} reported")
    locator = response.headers["Sforce-Locator"]
    return Piece(rows, None if locator in {"", "null"} else locator)


def _rows(body: bytes, object_name: str, what: str) -> list[dict[str, Any] | UnreadableRow]:
    """Read rows like those of REST, except that every value is a text; an empty one is null."""
    if body and not body.endswith(b"\n"):
        raise GarbledAnswerError(f"{what} end in the middle of a line")
    # Bytes that are no UTF-8 become surrogates, to cost their row alone.
    text = body.decode("utf-8", "surrogateescape")
    bytes_are_sound = text.isascii() or not _has_surrogates(text)
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    found: list[dict[str, Any] | UnreadableRow] = []
    try:
        header = [name.split(".") for name in next(lines, [])]
        for line in lines:
            fault = None if bytes_are_sound else _fault_of(line)
            if len(line) != len(header):
                fault = f"a row of {len(line)} values under {len(header)} columns"
            if fault is None:
                found.append(_row(header, line, object_name))
            else:
                joined = ",".join(line).encode("utf-8", "surrogateescape")
                found.append(UnreadableRow(joined, fault))
    except csv.Error as error:
        raise GarbledAnswerError(f"{what} are no CSV, or broke off: {error}") from None
    return found


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _fault_of(line: Sequence[str]) -> str | None:
    try:
        "".join(line).encode("utf-8", "surrogateescape").decode()
    except UnicodeDecodeError as error:
        return in_words(error)
    return None


def _row(header: Sequence[Sequence[str]], line: Sequence[str], object_name: str) -> dict[str, Any]:
    row: dict[str, Any] = {"attributes": {"type": object_name}}
    for path, value in zip(header, line, strict=True):
        target = row
        for name in path[:-1]:
            target = target.setdefault(name, {})
        target[path[-1]] = value or None
    return row
