"""The fake Salesforce, asked by the real simple-salesforce."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from simple_salesforce.api import Salesforce
from simple_salesforce.exceptions import (
    SalesforceAuthenticationFailed,
    SalesforceMalformedRequest,
    SalesforceRefusedRequest,
    SalesforceResourceNotFound,
)

from tests.fakes.salesforce import Doors, Org, expected_counts, generate, serve
from tests.fakes.salesforce.org import timestamp
from tests.fakes.salesforce.schema import make_id
from tests.fakes.server import FakeServer

Json = dict[str, Any]


class Loopback(HTTPAdapter):
    """Sends what is meant for Salesforce to the fake."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def send(self, request: requests.PreparedRequest, **more: Any) -> requests.Response:  # type: ignore[override]
        request.url = self._url + request.path_url
        return super().send(request, **more)


def client_of(server: FakeServer, **login: Any) -> Any:
    session = requests.Session()
    session.mount("https://", Loopback(server.url))
    login = login or {"consumer_key": "k", "consumer_secret": "s", "domain": "example.my"}
    return Salesforce(session=session, **login)


@pytest.fixture(scope="module")
def org() -> Org:
    return generate(2_500, seed=1)


@pytest.fixture(scope="module")
def server(org: Org) -> Iterator[FakeServer]:
    with serve(org) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: FakeServer) -> Any:
    return client_of(server)


def test_the_library_logs_in_by_password() -> None:
    doors = Doors(users={"jane": "pt"})
    with serve(Org(), doors=doors) as server:
        login = {"username": "jane", "password": "p"}
        assert client_of(server, **login, security_token="t").query("SELECT Id FROM Case")
        with pytest.raises(SalesforceAuthenticationFailed, match="INVALID_LOGIN"):
            client_of(server, **login, security_token="x")


def test_the_library_pages_through_a_query(client: Any, org: Org) -> None:
    found = client.query_all("SELECT Id, CaseNumber, Owner.Name FROM Case", include_deleted=True)
    assert found["totalSize"] == len(found["records"]) == 2_500
    names = {row["Id"]: row["Name"] for row in org.all("User")}
    by_id = {row["Id"]: row for row in org.all("Case")}
    for record in found["records"]:
        assert record["Owner"]["Name"] == names[by_id[record["Id"]]["OwnerId"]]
    present = client.query("SELECT COUNT() FROM Case")["totalSize"]
    assert present == 2_500 - sum(row["IsDeleted"] for row in org.all("Case"))
    assert client.api_usage["api-usage"].used > 0


def test_the_library_counts_by_months(client: Any, org: Org) -> None:
    found = client.query_all(
        "SELECT COUNT(Id) cases, MIN(CreatedDate), MAX(CreatedDate) newest FROM Case "
        "WHERE CreatedDate >= 2024-02-01T00:00:00Z "
        "GROUP BY CALENDAR_YEAR(CreatedDate), CALENDAR_MONTH(CreatedDate)",
        include_deleted=True,
    )["records"]
    stamps = [row["CreatedDate"] for row in org.all("Case")]
    months = Counter(stamp[:7] for stamp in stamps if stamp >= "2024-02")
    assert {row["newest"][:7]: row["cases"] for row in found} == months
    assert {row["expr0"] for row in found} == {
        min(stamp for stamp in stamps if stamp.startswith(month)) for month in months
    }


def test_the_library_reads_bulk_results(client: Any, org: Org) -> None:
    pieces = client.bulk2.Case.query_all(
        "SELECT Id, IsDeleted, Description, CreatedBy.Email FROM Case", max_records=700, wait=0.01
    )
    lines = [line for piece in pieces for line in piece.splitlines() if line.startswith('"500')]
    assert len(lines) == 2_500
    assert {line.split(",")[0].strip('"') for line in lines} == {
        row["Id"] for row in org.all("Case")
    }


def test_the_library_hears_of_deletions_and_limits(client: Any, org: Org) -> None:
    deleted = [row for row in org.all("Task") if row["IsDeleted"]]
    found = client.Task.deleted(timestamp(0), timestamp(2_000))
    assert len(found["deletedRecords"]) == len(deleted) > 0
    assert client.limits()["DailyApiRequests"]["Remaining"] > 0
    described = client.Case.describe()
    assert {"name": "CaseNumber", "type": "string", "relationshipName": None} in described["fields"]


def ask(client: Any, where: str, fields: str = "Id, CaseNumber, Status, Priority") -> list[Json]:
    found = client.query_all(f"SELECT {fields} FROM Case {where}", include_deleted=True)
    return list(found["records"])


@pytest.mark.parametrize(
    ("where", "test"),
    [
        ("WHERE Status = 'new'", lambda row: row["Status"] == "New"),
        ("WHERE Status != 'New'", lambda row: row["Status"] != "New"),
        ("WHERE Description = null", lambda row: row["Description"] is None),
        ("WHERE IsClosed = true", lambda row: row["IsClosed"]),
        ("WHERE CaseNumber LIKE '0000_0%'", lambda row: row["CaseNumber"][5] == "0"),
        ("WHERE Priority IN ('High', 'Low')", lambda row: row["Priority"] in {"High", "Low"}),
        ("WHERE Priority NOT IN ('High')", lambda row: row["Priority"] != "High"),
        ("WHERE NOT Priority = 'High'", lambda row: row["Priority"] != "High"),
        (
            "WHERE Status = 'New' AND (Priority = 'High' OR IsEscalated = true)",
            lambda row: (
                row["Status"] == "New" and (row["Priority"] == "High" or row["IsEscalated"])
            ),
        ),
        (
            "WHERE CreatedDate >= 2024-06-01T00:00:00Z AND CreatedDate < 2024-07-01T02:00:00+02:00",
            lambda row: "2024-06-01" <= row["CreatedDate"][:10] < "2024-07-01",
        ),
        ("WHERE CreatedBy.EmployeeNumber = 'E1003'", lambda row: row["by"] == "E1003"),
        ("WHERE Subject = 'It''s'", None),
        ("WHERE Subject = 'It\\'s'", lambda _: False),
    ],
)
def test_conditions_are_those_of_soql(client: Any, org: Org, where: str, test: Any) -> None:
    if test is None:
        with pytest.raises(SalesforceMalformedRequest, match="MALFORMED_QUERY"):
            ask(client, where)
        return
    numbers = {row["Id"]: row["EmployeeNumber"] for row in org.all("User")}
    wanted = {
        row["Id"] for row in org.all("Case") if test({**row, "by": numbers[row["CreatedById"]]})
    }
    assert {row["Id"] for row in ask(client, where)} == wanted


def test_rows_come_in_the_order_asked_for(client: Any, org: Org) -> None:
    found = ask(client, "ORDER BY Priority DESC, CaseNumber ASC LIMIT 50 OFFSET 3")
    rows = sorted(org.all("Case"), key=lambda row: row["CaseNumber"])
    rows.sort(key=lambda row: row["Priority"], reverse=True)
    assert [row["Id"] for row in found] == [row["Id"] for row in rows[3:53]]
    closed = ask(client, "ORDER BY ClosedDate NULLS LAST", "Id, ClosedDate")
    dates = [row["ClosedDate"] for row in closed]
    assert dates == sorted(filter(None, dates)) + [None] * dates.count(None)
    assert ask(client, "ORDER BY ClosedDate LIMIT 1", "Id, ClosedDate")[0]["ClosedDate"] is None


@pytest.mark.parametrize(
    ("soql", "code", "words"),
    [
        ("SELECT Id FORM Case", "MALFORMED_QUERY", "unexpected token: 'FORM'"),
        ("SELECT Id FROM Case WHERE", "MALFORMED_QUERY", "<EOF>"),
        ("SELECT Id FROM Case WHERE Id = 'a' OR Id = 'b' AND Id = 'c'", "MALFORMED_QUERY", "AND"),
        ("SELECT Id FROM Case LIMIT 1 ORDER BY Id", "MALFORMED_QUERY", "ORDER"),
        ("SELECT Colour FROM Case", "INVALID_FIELD", "No such column 'Colour' on entity 'Case'"),
        ("SELECT Boss.Name FROM Case", "INVALID_FIELD", "Didn't understand relationship 'Boss'"),
        ("SELECT Id, Id FROM Case", "INVALID_FIELD", "duplicate field selected"),
        ("SELECT Id FROM Lead", "INVALID_TYPE", "sObject type 'Lead' is not supported"),
        (
            "SELECT Id FROM Case WHERE CreatedDate > '2024'",
            "INVALID_FIELD",
            "must be of type dateTime",
        ),
        ("SELECT Id FROM Case WHERE Status = New", "MALFORMED_QUERY", "New"),
        ("SELECT Id FROM Case WHERE IsClosed = 'true'", "INVALID_FIELD", "must be of type boolean"),
    ],
)
def test_queries_are_refused_in_salesforces_words(
    client: Any, soql: str, code: str, words: str
) -> None:
    with pytest.raises(SalesforceMalformedRequest) as caught:
        client.query(soql)
    (error,) = json.loads(json.dumps(caught.value.content))
    assert error["errorCode"] == code
    assert words in error["message"]


def test_a_page_has_at_least_200_rows_and_at_most_2000(client: Any) -> None:
    for asked, given in ((1, 200), (500, 500), (9_999, 2_000)):
        options = {"Sforce-Query-Options": f"batchSize={asked}"}
        found = client.query("SELECT Id FROM Case", include_deleted=True, headers=options)
        assert len(found["records"]) == given
        assert not found["done"]


def test_the_oldest_of_many_cursors_is_let_go(client: Any) -> None:
    first = client.query("SELECT Id FROM Case", include_deleted=True)["nextRecordsUrl"]
    assert client.query_more(first, identifier_is_url=True)["records"]
    for _ in range(10):
        client.query("SELECT Id FROM Case", include_deleted=True)
    with pytest.raises(SalesforceMalformedRequest, match="INVALID_QUERY_LOCATOR"):
        client.query_more(first, identifier_is_url=True)


def test_a_days_requests_come_to_an_end() -> None:
    with serve(Org(), daily_limit=2) as server:
        client = client_of(server)
        client.query("SELECT Id FROM Case")
        assert client.api_usage["api-usage"] == (1, 2)
        client.query("SELECT Id FROM Case")
        with pytest.raises(SalesforceRefusedRequest, match="REQUEST_LIMIT_EXCEEDED"):
            client.query("SELECT Id FROM Case")


def test_a_session_that_ends_is_renewed_by_the_library() -> None:
    with serve(Org(), faults=["session-ended:1:1"]) as server:
        client = client_of(server)
        assert client.query("SELECT Id FROM Case")["done"]
        assert server.faults.injected["session-ended"] == 1


def test_bulk_jobs_have_a_life_of_their_own() -> None:
    org = generate(30, seed=2)
    with serve(org, bulk_looks=2) as server:
        jobs = client_of(server).bulk2.Case._client
        made = jobs.create_job("query", "SELECT Id, Subject FROM Case")
        id_ = made["id"]
        assert made["state"] == "UploadComplete"
        with pytest.raises(SalesforceMalformedRequest, match="INVALIDJOBSTATE"):
            jobs.get_query_results(id_)
        states = [jobs.get_job(id_, is_query=True)["state"] for _ in range(3)]
        assert states == ["UploadComplete", "InProgress", "JobComplete"]
        piece = jobs.get_query_results(id_, max_records=20)
        assert (piece["number_of_records"], bool(piece["locator"])) == (20, True)
        again = jobs.get_query_results(id_, piece["locator"], 20)
        assert again["locator"] == ""
        other = jobs.create_job("queryAll", "SELECT Id FROM Case")["id"]
        assert jobs.abort_job(other, is_query=True)["state"] == "Aborted"
        with pytest.raises(SalesforceMalformedRequest):
            jobs.create_job("query", "SELECT COUNT() FROM Case")
        with pytest.raises(SalesforceResourceNotFound):
            jobs.get_job("7500", is_query=True)


def test_the_org_changes_while_it_is_served() -> None:
    org = generate(10, seed=3)
    with serve(org) as server:
        client = client_of(server)
        case = org.all("Case")[0]
        at = datetime(2026, 1, 1, tzinfo=UTC)
        org.change(case, at, "0051", Status="Closed")
        org.delete(org.all("Case")[1], at + timedelta(seconds=1), None)
        org.add("Case", at, CaseNumber="new")
        found = client.query_all(
            "SELECT Id, SystemModstamp FROM Case WHERE SystemModstamp >= 2026-01-01T00:00:00Z",
            include_deleted=True,
        )
        assert found["totalSize"] == 3
        history = client.query(f"SELECT NewValue FROM CaseHistory WHERE CaseId = '{case['Id']}' "
                               "ORDER BY CreatedDate DESC LIMIT 1")  # fmt: skip
        assert history["records"][0]["NewValue"] == "Closed"


def test_the_same_seed_makes_the_same_org() -> None:
    assert generate(30, seed=4).rows == generate(30, seed=4).rows
    assert generate(30, seed=4).rows != generate(30, seed=5).rows


def test_ids_have_their_checksum() -> None:
    # Every triple of bits is of the capitals among five characters.
    assert len(make_id("500", 1)) == 18
    assert make_id("500", 10)[:15] < make_id("500", 61)[:15] < make_id("500", 62)[:15]


def test_it_runs_alone_and_counts() -> None:
    command = [sys.executable, "-m", "tests.fakes.salesforce", "--generate", "20", "--seed", "4"]
    counted = subprocess.run([*command, "--count"], capture_output=True, check=True, timeout=60)
    assert json.loads(counted.stdout) == expected_counts(generate(20, seed=4))
    with subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True) as alone:
        try:
            assert alone.stdout is not None
            url = alone.stdout.readline().removeprefix("listening on ").strip()
            assert requests.get(f"{url}/services/data/", timeout=60).status_code == 401
        finally:
            alone.terminate()
