"""What is made of the Bulk API's answers."""

import threading
from typing import Any

import pytest
import requests

from temporaletl import SourceProtocolError, SourceUnavailableError
from worker.sources.salesforce.bulk import BulkJobFailedError, BulkQueries


class Org:
    """Gives every request one answer."""

    api = "/services/data/v59.0"

    def __init__(self, body: bytes, **headers: str) -> None:
        self._answer = requests.Response()
        self._answer.status_code = 200
        self._answer._content = body
        self._answer.headers.update(headers)
        self.asked: list[tuple[str, str, Any]] = []

    def send(self, method: str, url: str, **more: Any) -> requests.Response:
        self.asked.append((method, url, more.get("params")))
        return self._answer


def queries(body: str, **headers: str) -> tuple[BulkQueries, Org]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    org = Org(body.encode(), **named)
    return BulkQueries(org, threading.Event()), org  # type: ignore[arg-type]


def test_texts_become_rows_and_empty_ones_nulls() -> None:
    text = (
        '"Id","IsDeleted","Subject","Case.CaseNumber","CreatedBy.TimeZoneSidKey"\n'
        '"5001","false","two\nlines, and ""quotes""","0001",""\n'
        '"5002","true","","",""\n'
    )
    bulk, org = queries(text, Sforce_Locator="MTA", Sforce_NumberOfRecords="2")
    piece = bulk.piece("750", "Case", "MQ", 100)
    assert piece.locator == "MTA"
    assert piece.rows[0] == {
        "attributes": {"type": "Case"},
        "Id": "5001",
        "IsDeleted": "false",
        "Subject": 'two\nlines, and "quotes"',
        "Case": {"CaseNumber": "0001"},
        "CreatedBy": {"TimeZoneSidKey": None},
    }
    assert piece.rows[1]["Subject"] is None
    assert org.asked[0][2] == {"maxRecords": 100, "locator": "MQ"}


@pytest.mark.parametrize("locator", ["null", ""])
def test_the_last_piece_leads_nowhere(locator: str) -> None:
    bulk, org = queries('"Id"\n"5"\n', Sforce_Locator=locator, Sforce_NumberOfRecords="1")
    assert bulk.piece("750", "Case", None, 100).locator is None
    assert org.asked[0][2] == {"maxRecords": 100}


def test_a_result_without_rows_is_empty() -> None:
    for text in ("", '"Id"\n'):
        bulk, _ = queries(text, Sforce_Locator="null", Sforce_NumberOfRecords="0")
        assert bulk.piece("750", "Case", None, 100).rows == []


@pytest.mark.parametrize(
    ("text", "headers", "kind"),
    [
        ('"Id"\n"5"\n', {"Sforce_NumberOfRecords": "2"}, SourceUnavailableError),
        ('"Id"\n"5"\n', {}, SourceProtocolError),
        ('"Id"\n"5"\n', {"Sforce_NumberOfRecords": "many"}, SourceProtocolError),
        ('"Id"\n"5","6"\n', {"Sforce_NumberOfRecords": "1"}, SourceProtocolError),
        ('"Id"\n"' + "x" * 200_000 + '"\n', {"Sforce_NumberOfRecords": "1"}, SourceProtocolError),
    ],
)
def test_a_result_that_is_not_whole_is_no_result(
    text: str, headers: dict[str, str], kind: type[Exception]
) -> None:
    bulk, _ = queries(text, **headers)
    with pytest.raises(kind, match=r"750|values"):
        bulk.piece("750", "Case", None, 100)


@pytest.mark.parametrize(
    ("state", "complete"), [("UploadComplete", False), ("InProgress", False), ("JobComplete", True)]
)
def test_a_job_under_way_is_waited_for(state: str, *, complete: bool) -> None:
    assert queries(f'{{"state": "{state}"}}')[0].is_complete("750") is complete


@pytest.mark.parametrize("state", ["Failed", "Aborted", "Anything"])
def test_a_job_in_any_other_state_has_failed(state: str) -> None:
    told = f'{{"state": "{state}", "errorMessage": "QUERY_TIMEOUT: too long", "object": "Case"}}'
    with pytest.raises(BulkJobFailedError, match=f"Case ended as {state}: QUERY_TIMEOUT: too long"):
        queries(told)[0].is_complete("750")


@pytest.mark.parametrize("body", ["", "<html>", "[]", "{}", '{"state": null}', "[1]", "17"])
def test_an_answer_that_is_no_jobs_is_told(body: str) -> None:
    with pytest.raises(SourceProtocolError, match="bulk"):
        queries(body)[0].is_complete("750")
