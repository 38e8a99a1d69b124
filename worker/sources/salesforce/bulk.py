"""The Bulk API 2.0: a query as a job of Salesforce's own, its results fetched piece by piece."""

import csv
import io
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from simple_salesforce.bulk2 import Operation, _Bulk2Client

from temporaletl import PermanentError, SourceProtocolError, SourceUnavailableError
from temporaletl.external.salesforce.login import Wire
from temporaletl.external.salesforce.org import SalesforceOrg
from temporaletl.external.salesforce.query import Selection, probe, with_seen_columns

#: States in which a job has not ended.
_UNDER_WAY = frozenset({"UploadComplete", "InProgress"})


class BulkJobFailedError(PermanentError):
    """Salesforce gave up a bulk query, or somebody ended it."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of a result, as texts by field; `locator` leads to the next piece, None to none."""

    rows: Sequence[dict[str, Any]]
    locator: str | None


class BulkQueries:
    """The bulk queries of one org. Every call blocks, and is safe to repeat."""

    def __init__(self, org: SalesforceOrg, stop: threading.Event) -> None:
        self._org = org
        wire = Wire(lambda method, url, **more: org.send(method, url, stop=stop, **more))
        # The library's own way of waiting and reading whole results is not used.
        self._library = _Bulk2Client("", f"https://instance{org.api}/jobs/", {}, wire)
        self._stop = stop

    def create(self, selection: Selection) -> str:
        """Begin a query and return its job's id; one that is begun twice is done twice.

        Raises:
            NotInBulkError: the Bulk API does not have the object.
            ETLError: as `temporaletl.external.salesforce.query.probe`.
        """
        # What a user may not see, the job would tell only at its end.
        probe(self._org, selection, self._stop)

        def begin(columns: Sequence[str]) -> Any:
            # No order: Salesforce divides only unordered queries, and large ones need it.
            operation = Operation.query if selection.present else Operation.query_all
            with _answers_of("a new bulk query"):
                return dict(self._library.create_job(operation, selection.soql(columns)))

        return str(_told(with_seen_columns(self._org, selection, begin), "id"))

    def is_complete(self, job_id: str) -> bool:
        """Return whether the results are there.

        Raises:
            BulkJobFailedError: there will be none.
            GoneError: there is no such job, or no longer.
        """
        job = self._job(job_id)
        state = str(_told(job, "state"))
        if state == "JobComplete":
            return True
        if state in _UNDER_WAY:
            return False
        why = job.get("errorMessage") or "Salesforce does not say why"
        raise BulkJobFailedError(
            f"salesforce: bulk query {job_id} for {job.get('object')} ended as {state}: {why}; "
            "load shorter windows (a backfill by parts), or raise SF_BULK_ABOVE_ROWS so that "
            "REST reads them"
        )

    def rows_in(self, job_id: str) -> int:
        """Return how many rows a complete job has."""
        return int(self._job(job_id).get("numberRecordsProcessed") or 0)

    def _job(self, job_id: str) -> dict[str, Any]:
        with _answers_of(f"bulk query {job_id}"):
            return dict(self._library.get_job(job_id, is_query=True))

    def abort(self, job_id: str) -> None:
        """End a query that nobody waits for any more."""
        with _answers_of(f"bulk query {job_id}"):
            self._library.abort_job(job_id, is_query=True)

    def piece(self, job_id: str, object_name: str, locator: str | None, size: int) -> Piece:
        """Fetch the next rows of a complete job.

        Raises:
            SourceUnavailableError: fewer rows came than the answer says it has.
            GoneError: the results are no longer there.
            SourceProtocolError: the answer is no result.
        """
        with _answers_of(f"the results of bulk query {job_id}"):
            result = self._library.get_query_results(job_id, locator or "", size)
            rows = list(_rows(str(result["records"]), object_name))
            told = int(result["number_of_records"])
        if len(rows) != told:
            raise SourceUnavailableError(
                f"salesforce: {len(rows)} rows came of bulk query {job_id}, not the {told} told"
            )
        return Piece(rows, str(result["locator"]) or None)


def _told(job: Mapping[str, Any], name: str) -> Any:
    if not job.get(name):
        raise SourceProtocolError(f"salesforce: a bulk job without {name}: {str(job)[:200]}")
    return job[name]


@contextmanager
def _answers_of(what: str) -> Iterator[None]:
    """Let no error of reading an answer go by the library's or Python's own name."""
    try:
        yield
    except (LookupError, TypeError, ValueError, csv.Error) as error:
        raise SourceProtocolError(
            f"salesforce: the answer about {what} cannot be read ({type(error).__name__})"
        ) from None


def _rows(text: str, object_name: str) -> Iterator[dict[str, Any]]:
    """Yield rows like those of REST, except that every value is a text; an empty one is null."""
    lines = csv.reader(io.StringIO(text, newline=""))
    header = [name.split(".") for name in next(lines, [])]
    for line in lines:
        if len(line) != len(header):
            raise SourceProtocolError(
                f"salesforce: a row of {len(line)} values under {len(header)} columns"
            )
        row: dict[str, Any] = {"attributes": {"type": object_name}}
        for path, value in zip(header, line, strict=True):
            place = row
            for name in path[:-1]:
                place = place.setdefault(name, {})
            place[path[-1]] = value or None
        yield row
