"""Decoding of the Bulk API's answers."""

import threading
from typing import Any

import pytest
import requests

from temporaletl.external.answers import GarbledAnswerError, MisfitAnswerError
from temporaletl.external.exchange import AnswerTooLargeError
from temporaletl.worker.sources.salesforce.bulk import (
    BulkJobFailedError,
    BulkQueries,
    UnreadableRow,
)


class Org:
    """Gives every request one answer."""

    api = "/services/data/v59.0"

    def __init__(self, body: bytes, **headers: str) -> None:
        self.answer = requests.Response()
        self.answer.status_code = 200
        self.answer.url = "https://example.my.salesforce.com/services/data/v59.0/jobs/query/750"
        self.answer._content = body
        self.answer.headers.update(headers)
        self.requests: list[tuple[str, str, Any]] = []

    def request(self, method: str, path: str, *, read: Any, **more: Any) -> Any:
        self.requests.append((method, path, more.get("params")))
        return read(self.answer)


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
    first, second = piece.rows
    assert first == {
        "attributes": {"type": "Case"},
        "Id": "5001",
        "IsDeleted": "false",
        "Subject": 'two\nlines, and "quotes"',
        "Case": {"CaseNumber": "0001"},
        "CreatedBy": {"TimeZoneSidKey": None},
    }
    assert isinstance(second, dict)
    assert second["Subject"] is None
    assert org.requests[0][2] == {"maxRecords": 100, "locator": "MQ"}


@pytest.mark.parametrize("locator", ["null", ""])
def test_the_last_piece_leads_nowhere(locator: str) -> None:
    bulk, org = queries('"Id"\n"5"\n', Sforce_Locator=locator, Sforce_NumberOfRecords="1")
    assert bulk.piece("750", "Case", None, 100).locator is None
    assert org.requests[0][2] == {"maxRecords": 100}


def test_a_result_without_rows_is_empty() -> None:
    for text in ("", '"Id"\n'):
        bulk, _ = queries(text, Sforce_Locator="null", Sforce_NumberOfRecords="0")
        assert bulk.piece("750", "Case", None, 100).rows == []


@pytest.mark.parametrize(
    ("text", "headers"),
    [
        ('"Id"\n"5"\n', {"Sforce_NumberOfRecords": "2"}),
        ('"Id"\n"5"\n', {}),
        ('"Id"\n"5"\n', {"Sforce_NumberOfRecords": "many"}),
        # What looks like a number, and is more than one can be, or none.
        ('"Id"\n"5"\n', {"Sforce_NumberOfRecords": "²"}),
        ('"Id"\n"5"\n', {"Sforce_NumberOfRecords": "1" * 5_000}),
        # In the middle of a row: within a value, behind one, and where all values are there.
        ('"Id","Name"\n"5","wo', {"Sforce_NumberOfRecords": "1"}),
        ('"Id","Name"\n"5",', {"Sforce_NumberOfRecords": "1"}),
        ('"Id","Name"\n"5","words"', {"Sforce_NumberOfRecords": "1"}),
        ("<html><title>Log in</title></html>", {}),
        ("", {"Sforce_NumberOfRecords": "3"}),
    ],
)
def test_a_result_that_is_not_whole_is_asked_for_again(text: str, headers: dict[str, str]) -> None:
    bulk, _ = queries(text, **{"Sforce_Locator": "null", **headers})
    with pytest.raises(GarbledAnswerError, match="750"):
        bulk.piece("750", "Case", None, 100)


def test_a_result_without_its_locator_is_none() -> None:
    bulk, _ = queries('"Id"\n"5"\n', Sforce_NumberOfRecords="1")
    with pytest.raises(GarbledAnswerError, match="without a locator"):
        bulk.piece("750", "Case", None, 100)


def test_a_row_that_is_none_costs_no_other() -> None:
    text = b'"Id","Name"\n"1","a"\n"2","b\xfcrger"\n"3","c","d"\n"4","z\xc3\xbcge"\n'
    org = Org(text, **{"Sforce-Locator": "null", "Sforce-NumberOfRecords": "4"})
    piece = BulkQueries(org, threading.Event()).piece("750", "Case", None, 100)  # type: ignore[arg-type]
    first, second, third, fourth = piece.rows
    assert isinstance(first, dict)
    assert isinstance(fourth, dict)
    assert (first["Name"], fourth["Name"]) == ("a", "züge")
    assert second == UnreadableRow(b"2,b\xfcrger", "a text is not valid UTF-8 (byte 0xfc)")
    assert isinstance(third, UnreadableRow)
    assert third.reason == "a row of 3 values under 2 columns"


def test_a_result_is_read_by_its_charset() -> None:
    org = Org('"Name"\n"bürger"\n'.encode("latin-1"))
    headers = {"Sforce-Locator": "null", "Sforce-NumberOfRecords": "1"}
    org.answer.headers.update({**headers, "Content-Type": "text/csv; charset=ISO-8859-1"})
    bulk = BulkQueries(org, threading.Event())  # type: ignore[arg-type]
    (row,) = bulk.piece("750", "Case", None, 100).rows
    assert isinstance(row, dict)
    assert row["Name"] == "bürger"


def test_long_values_and_nuls_are_values_like_others() -> None:
    long = "x" * 200_000
    text = f'"Name","Note"\n"{long}","a\0b"\n'
    bulk, _ = queries(text, Sforce_Locator="null", Sforce_NumberOfRecords="1")
    (row,) = bulk.piece("750", "Case", None, 100).rows
    assert isinstance(row, dict)
    assert (row["Name"], row["Note"]) == (long, "a\0b")


def test_an_answer_that_is_too_large_is_asked_for_in_smaller_pieces() -> None:
    bulk, org = queries('"Id"\n"5"\n', Sforce_Locator="null", Sforce_NumberOfRecords="1")
    small = org.request

    def request(method: str, path: str, **more: Any) -> Any:
        if more["params"]["maxRecords"] > 20:
            org.requests.append((method, path, more["params"]))
            raise AnswerTooLargeError("more than there is room for")
        return small(method, path, **more)

    org.request = request  # type: ignore[method-assign]
    assert len(bulk.piece("750", "Case", "MQ", 50).rows) == 1
    assert [params["maxRecords"] for _, _, params in org.requests] == [50, 25, 12]
    assert {params["locator"] for _, _, params in org.requests} == {"MQ"}


@pytest.mark.parametrize(
    ("state", "complete"), [("UploadComplete", False), ("InProgress", False), ("JobComplete", True)]
)
def test_a_job_under_way_is_waited_for(state: str, *, complete: bool) -> None:
    assert queries(f'{{"id": "750", "state": "{state}"}}')[0].is_complete("750") is complete


@pytest.mark.parametrize("state", ["Failed", "Aborted", "Anything"])
def test_a_job_in_any_other_state_has_failed(state: str) -> None:
    why = '"errorMessage": "QUERY_TIMEOUT: too long", "object": "Case"'
    answer = f'{{"id": "750", "state": "{state}", {why}}}'
    with pytest.raises(BulkJobFailedError, match=f"Case ended as {state}: QUERY_TIMEOUT: too long"):
        queries(answer)[0].is_complete("750")


@pytest.mark.parametrize("body", ["[]", "{}", '{"id": "750", "state": null}', "[1]", "17"])
def test_an_answer_that_is_no_jobs_is_told(body: str) -> None:
    with pytest.raises(MisfitAnswerError, match="salesforce: "):
        queries(body)[0].is_complete("750")


@pytest.mark.parametrize("body", ["", "<html>", '{"id": "75'])
def test_an_answer_that_broke_off_is_asked_for_again(body: str) -> None:
    with pytest.raises(GarbledAnswerError, match="salesforce: "):
        queries(body)[0].is_complete("750")
