"""Answers of Salesforce that are none, and rows in them that no one can read."""

import re
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from temporaletl import CredentialsError, SourceProtocolError, SourceUnavailableError
from temporaletl.external.salesforce.account import salesforce_account
from temporaletl.external.salesforce.employees import read_employees
from temporaletl.external.salesforce.settings import SalesforceSettings
from tests.fakes.exchange import Request, Response
from tests.fakes.salesforce import Org, generate
from tests.fakes.salesforce.service import error
from tests.integration.job_reading import Change, Read, Serve, corrupt, hold_until_in_flight, read
from tests.integration.salesforce_reading import holds, jobs_of, served

#: A fixture.
__all__ = ["served"]

XML = (
    b'<?xml version="1.0" encoding="UTF-8"?><Errors><Error><errorCode>UNKNOWN_EXCEPTION</errorCode>'
    b"<message>An unexpected error occurred</message></Error></Errors>"
)
CORRUPTED = {
    "406": Response(406, b"", "text/html"),
    "420": Response(420, b"", "text/plain"),
    "400 in XML": Response(400, XML, "application/xml"),
    "400 in words": Response(400, b"<error>Unknown exception</error>", "text/xml"),
    "500 without words": Response(500, b"\xff[", "application/json"),
    "HTML": Response(200, b"<!DOCTYPE html><title>Log in - Example</title>", "text/html"),
    "empty": Response(200, b""),
    "an object of nothing": Response(200, b"{}"),
    "an error": Response(200, b'[{"errorCode": "UNKNOWN_EXCEPTION", "message": "sorry"}]'),
    "without records": Response(200, b'{"done": true, "totalSize": 0}'),
    "without done": Response(200, b'{"records": [], "totalSize": 0}'),
    "null records": Response(200, b'{"done": true, "totalSize": 0, "records": null}'),
    "no way on": Response(200, b'{"done": false, "totalSize": 9, "records": []}'),
}
CASES = ("cases",)


def is_query(request: Request) -> bool:
    return "/query" in request.path and "COUNT(" not in request.first("q")


@pytest.fixture
def org() -> Org:
    return generate(25, seed=3)


@pytest.mark.parametrize("kind", CORRUPTED)
async def test_one_answer_that_is_none_is_asked_for_again(
    served: Serve, org: Org, kind: str
) -> None:
    server = served(org)
    seen: list[str] = []

    def once(request: Request, answer: Response) -> Response:
        # Each address once, whatever is asked of it.
        if request.path.startswith("/services/data") and request.path not in seen:
            seen.append(request.path)
            return CORRUPTED[kind]
        return answer

    corrupt(server, once)
    found = await read(jobs_of())
    assert holds(found, org)
    assert not found.interruptions
    assert not found.rejects


@pytest.mark.parametrize("share", [0.3, 0.9])
async def test_a_cut_answer_is_asked_for_again(served: Serve, org: Org, share: float) -> None:
    server = served(org, SF_BULK_ABOVE_ROWS="40")
    seen: set[str] = set()

    def cut(request: Request, answer: Response) -> Response:
        if "/services/data" in request.path and request.target not in seen and answer.body:
            seen.add(request.target)
            whole = Response(answer.status, answer.body[: int(len(answer.body) * share)])
            whole.headers = answer.headers
            return whole
        return answer

    corrupt(server, cut)
    found = await read(jobs_of())
    assert any("/results" in target for target in seen)
    assert holds(found, org)
    assert not found.rejects


@pytest.mark.parametrize("kind", CORRUPTED)
@pytest.mark.parametrize("counted", [True, False])
async def test_what_is_never_an_answer_is_no_end_of_the_rows(
    served: Serve, org: Org, kind: str, *, counted: bool
) -> None:
    server = served(org)
    corrupt(server, lambda r, a: CORRUPTED[kind] if is_query(r) or not counted else a)
    found = Read()
    with pytest.raises((SourceUnavailableError, SourceProtocolError)) as told:
        await read(jobs_of(streams=CASES), patience=0)
    if kind == "HTML":
        assert re.search(r'"Log in - Example".*check SF_.*INSTANCE_URL and SF_', str(told.value))
    assert not found.events


POISONS = {
    "not a number": (b"NaN", True),
    "not UTF-8": (b'"b\xfcrger"', False),
    "nested": (b"[" * 100_000 + b"]" * 100_000, True),
    "a number of 5,000 digits": (b"9" * 5_000, False),
    "a number beyond a double": (b"1e999", False),
}


@pytest.mark.parametrize("kind", POISONS)
@pytest.mark.parametrize("member", ["Unread", "Subject"])
@pytest.mark.parametrize("size", ["1", "7", "2000"])
async def test_one_row_that_cannot_be_decoded_is_one_reject(
    served: Serve, org: Org, kind: str, member: str, size: str
) -> None:
    poison, always = POISONS[kind]
    server = served(org, SF_PAGE_SIZE=size)
    whole = await read(jobs_of(streams=CASES))
    victim = str(org.all("Case")[7]["Id"])

    def put_in(request: Request, answer: Response) -> Response:
        del request
        added = b'"%s":%s,' % (member.encode(), poison)

        def poisoned(found: re.Match[bytes]) -> bytes:
            row = re.sub(rb'"Subject":"(?:[^"\\]|\\.)*",', b"", found[0], count=1)
            return row.replace(b'"Id":', added + b'"Id":', 1)

        row = rb'\{"attributes":\{"type":"Case",[^}]*%s"\},.*?"(?=\})' % victim.encode()
        body = re.sub(row, poisoned, answer.body)
        made = Response(answer.status, body)
        made.headers = answer.headers
        return made

    corrupt(server, put_in)
    found = await read(jobs_of(streams=CASES))
    others = {id_ for id_ in whole.events if not id_.startswith(victim)}
    if always or member == "Subject":
        assert set(found.events) == others
        assert {reject.key for reject in found.rejects} == {victim}
        assert all(reject.reason for reject in found.rejects)
    else:
        assert set(found.events) == set(whole.events)
        assert not found.rejects


def unrenderable(*ids: str, bare: bool) -> Change:
    """Fail at whatever holds one of the rows; `bare` says that its Id alone can be rendered."""

    def corruption(request: Request, answer: Response) -> Response:
        selected = request.first("q").partition(" FROM ")[0]
        if bare and selected.count(",") < 2:
            return answer
        if is_query(request) and any(id_.encode() in answer.body for id_ in ids):
            return error(500, "UNKNOWN_EXCEPTION", "An unexpected error occurred")
        return answer

    return corruption


@pytest.mark.parametrize("bare", [True, False])
@pytest.mark.parametrize("places", [(0,), (11,), (-1,), (3, 4), (5, 9)])
@pytest.mark.parametrize("size", ["1", "20", "2000"])
async def test_a_row_that_salesforce_cannot_render_costs_no_other(
    served: Serve, org: Org, places: tuple[int, ...], size: str, *, bare: bool
) -> None:
    server = served(org, SF_PAGE_SIZE=size)
    whole = await read(jobs_of(streams=("tasks",)))
    rows = sorted(org.all("Task"), key=lambda row: (row["SystemModstamp"], row["Id"]))
    victims = [str(rows[place]["Id"]) for place in places]
    corrupt(server, unrenderable(*victims, bare=bare))
    found = await read(jobs_of(streams=("tasks",)))
    assert set(found.events) == {id_ for id_ in whole.events if not id_.startswith(tuple(victims))}
    assert 1 <= len(found.rejects) <= len(victims)
    assert all("UNKNOWN_EXCEPTION" in reject.reason for reject in found.rejects)
    if bare:
        assert sorted(str(reject.key) for reject in found.rejects) == sorted(victims)
    assert not found.interruptions


async def test_an_outage_makes_no_rejects(served: Serve, org: Org) -> None:
    server = served(org)

    def fails(request: Request, answer: Response) -> Response:
        down = is_query(request) and b'"attributes"' in answer.body
        return error(500, "UNKNOWN_EXCEPTION", "sorry") if down else answer

    corrupt(server, fails)
    with pytest.raises(SourceUnavailableError, match="UNKNOWN_EXCEPTION"):
        await read(jobs_of(streams=CASES), patience=0)


async def test_a_bulk_query_that_breaks_at_a_row_is_read_by_rest(served: Serve, org: Org) -> None:
    server = served(org, SF_BULK_ABOVE_ROWS="1")
    victim = str(org.all("Task")[9]["Id"])
    around = unrenderable(victim, bare=True)

    def fails(request: Request, answer: Response) -> Response:
        if "/jobs/query/" in request.path and b'"JobComplete"' in answer.body:
            told = {**msgspec.json.decode(answer.body), "state": "Failed"}
            return Response.of({**told, "errorMessage": "UNKNOWN_EXCEPTION: 1 of 25"})
        return around(request, answer)

    corrupt(server, fails)
    found = await read(jobs_of(streams=("tasks",)))
    assert [reject.key for reject in found.rejects] == [victim]
    assert len(found.records) == len(org.all("Task")) - 1


async def test_a_user_that_cannot_be_read_hides_no_other(
    served: Serve, org: Org, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = served(org)
    monkeypatch.setenv("SF_IDENTITY_FIELDS", "jira:Jira_Account__c")
    settings = SalesforceSettings.load()
    everybody = {each.person for each in read_employees(settings)}
    first, second = sorted(everybody)[:2]

    def corruption(request: Request, answer: Response) -> Response:
        del request
        body = re.sub(
            rb'("Id":"%s".*?"Jira_Account__c":)[^,}]*' % first.encode(), rb"\1NaN", answer.body
        )
        return Response(answer.status, body)

    corrupt(server, corruption)
    assert {each.person for each in read_employees(settings)} == everybody - {first}
    corrupt(server, unrenderable(second, bare=True))
    assert {each.person for each in read_employees(settings)} == everybody - {first, second}


async def test_the_way_of_reading_changes_no_row(served: Serve, org: Org) -> None:
    case = org.all("Case")[0]
    case["Description"], case["Subject"] = "a\0b", "two\r\nlines, and \u2028 more"
    deal = org.all("Opportunity")[0]
    deal["Amount"] = 10101.25
    org.note_edits()

    def exact(request: Request, answer: Response) -> Response:
        del request
        # The fake's own numbers are doubles.
        made = Response(answer.status, answer.body.replace(b"10101.25", b"90071992547409.93"))
        made.headers = answer.headers
        return made

    corrupt(served(org), exact)
    by_rest = await read(jobs_of())
    in_bulk = await read(jobs_of(bulk_above_rows=1))
    assert by_rest.events == in_bulk.events
    event = by_rest.events[f"{deal['Id']}:created"]
    assert event.metrics["amount"] == Decimal("90071992547409.93")
    assert by_rest.events[f"{case['Id']}:created"].event_properties["description"] == "a\0b"


def test_the_account_is_the_user_with_its_permissions_and_objects(served: Serve, org: Org) -> None:
    server = served(org)
    service: Any = server.service
    whole = salesforce_account()
    assert whole is not None
    assert whole.account == f"00D5g0000000001EAA/{service.user_id}"
    assert "PermissionsViewAllData" in whole.permissions
    assert whole.containers >= {"Case", "Opportunity", "Task", "Event", "User"}
    service.permissions["PermissionsViewAllData"] = False
    org.locked.add("Opportunity")
    org.absent.add("CaseComment")
    less = salesforce_account()
    assert less is not None
    assert whole.permissions - less.permissions == {"PermissionsViewAllData"}
    assert whole.containers - less.containers == {"Opportunity", "CaseComment"}
    del service.permissions["PermissionsViewAllUsers"]
    another = salesforce_account()
    assert another is not None
    assert another.permissions == {"PermissionsModifyAllData"}
    service.forbidden = True
    with pytest.raises(CredentialsError, match="API_DISABLED_FOR_ORG"):
        salesforce_account()


def test_what_the_view_needs_is_requested_at_once_where_the_login_was_let_in(
    served: Serve, org: Org
) -> None:
    server = served(org)
    salesforce_account()
    together = hold_until_in_flight(server, 3)
    salesforce_account()
    assert together.is_set()
