"""The fake Jira searches, pages and lets in as the service does."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from jira import JIRA

from tests.fakes.client import Client
from tests.fakes.jira import Site, generate, serve
from tests.fakes.jira.vast import VastSearcher, VastSite
from tests.unit.fake_jira import client_of, count, longest

SEED = 7


@pytest.fixture
def site() -> Site:
    return generate(120, seed=SEED)


@pytest.fixture
def cloud(site: Site) -> Iterator[Client]:
    with client_of(site) as client:
        yield client


@pytest.fixture
def server() -> Iterator[Client]:
    with client_of(generate(120, seed=SEED, personality="server")) as client:
        yield client


# Search on Cloud


def test_a_search_without_fields_gives_ids_alone(cloud: Client) -> None:
    page = cloud.get("/rest/api/3/search/jql", jql="project = CORE", maxResults=3)
    assert [set(issue) for issue in page["issues"]] == [{"id"}] * 3
    assert not {"total", "startAt"} & set(page)


def test_tokens_lead_through_every_issue_once(cloud: Client, site: Site) -> None:
    pages = list(cloud.paginate("project is not empty ORDER BY updated, key", maxResults=7))
    found = [int(issue["id"]) for page in pages for issue in page["issues"]]
    expected = sorted(site.rows, key=lambda r: (r.updated, r.project, r.sequence))
    assert found == [row.id for row in expected]


def test_is_last_is_missing_from_some_pages_and_never_wrong(cloud: Client) -> None:
    pages = list(cloud.paginate("id > 0", maxResults=5))
    assert any("isLast" not in page for page in pages)
    assert all(page["isLast"] is (page is pages[-1]) for page in pages if "isLast" in page)


def test_a_page_with_fields_holds_less_than_asked_for(cloud: Client) -> None:
    asked = {"jql": "id > 0", "maxResults": 5000}
    assert len(cloud.post("/rest/api/3/search/jql", **asked)["issues"]) == 120
    assert len(cloud.post("/rest/api/3/search/jql", **asked, fields=["summary"])["issues"]) == 100


def test_fields_may_be_repeated_or_parted_by_commas(cloud: Client) -> None:
    wanted = {"summary", "status"}
    for fields in (["summary", "status"], "summary,status"):
        page = cloud.get("/rest/api/2/search/jql", jql="id > 0", fields=fields, maxResults=1)
        assert set(page["issues"][0]["fields"]) == wanted


@pytest.mark.parametrize("jql", ["", "ORDER BY updated"])
def test_a_query_without_restriction_is_refused(cloud: Client, jql: str) -> None:
    response = cloud.raw("GET", "/rest/api/3/search/jql", params={"jql": jql})
    assert response.status_code == 400
    assert response.json()["errorMessages"][0].startswith("Unbounded JQL")
    assert response.json()["errors"] == {}


def test_the_old_search_is_gone_from_cloud(cloud: Client) -> None:
    assert cloud.raw("GET", "/rest/api/3/search", params={"jql": "id > 0"}).status_code == 410


@pytest.mark.parametrize("token", ["nonsense", "eyJ3YWxrIjoxfQ=="])
def test_a_token_of_another_making_is_refused(cloud: Client, token: str) -> None:
    params = {"jql": "id > 0", "nextPageToken": token}
    assert cloud.raw("GET", "/rest/api/3/search/jql", params=params).status_code == 400


def test_a_token_serves_only_its_own_query(cloud: Client) -> None:
    token = cloud.get("/rest/api/3/search/jql", jql="id > 0", maxResults=1)["nextPageToken"]
    params = {"jql": "id > 5", "nextPageToken": token}
    assert cloud.raw("GET", "/rest/api/3/search/jql", params=params).status_code == 400


def test_an_issue_updated_between_pages_shifts_the_others(cloud: Client, site: Site) -> None:
    walk = cloud.paginate("id > 0 ORDER BY updated, key", maxResults=50)
    first = [issue["id"] for issue in next(walk)["issues"]]
    site.edit.touch(first[0])
    rest = [issue["id"] for page in walk for issue in page["issues"]]
    missing = {str(row.id) for row in site.rows} - {*first, *rest}
    assert len(missing) == 1
    assert rest[-1] == first[0]


# JQL


@pytest.mark.parametrize(
    ("jql", "test"),
    [
        ("project = core", lambda r: r.project == "CORE"),
        (
            "project in (CORE, WEB) AND NOT status = Done",
            lambda r: r.project in {"CORE", "WEB"} and r.status != "Done",
        ),
        ("status = 'In Progress' OR status = 3", lambda r: r.status == "In Progress"),
        ("status not in (Done, 10002)", lambda r: r.status not in {"Done", "Blocked"}),
        ("NOT (issuetype = Bug OR type = Epic)", lambda r: r.issuetype not in {"Bug", "Epic"}),
        ("assignee is EMPTY", lambda r: r.assignee is None),
        ("labels not in (urgent)", lambda r: r.labels and "urgent" not in r.labels),
        ("labels in (urgent, EMPTY)", lambda r: not r.labels or "urgent" in r.labels),
        (
            "updated >= 1700000000000 AND updated < 1710000000000",
            lambda r: 1_700_000_000_000 <= r.updated < 1_710_000_000_000,
        ),
        (
            "created <= '2023-06-01' && id != 10003",
            lambda r: r.created <= 1_685_592_000_000 and r.id != 10_003,
        ),
        ("key in (CORE-1, CORE-999)", lambda r: r.key == "CORE-1"),
        ("key > CORE-5", lambda r: r.project == "CORE" and r.sequence > 5),
        ("id in (10001, 10002) AND created > 0", lambda r: r.id in {10_001, 10_002}),
    ],
)
def test_a_query_finds_what_it_says(cloud: Client, site: Site, jql: str, test: Any) -> None:
    assert count(cloud, jql) == sum(bool(test(row)) for row in site.rows)


@pytest.mark.parametrize(
    ("jql", "message"),
    [
        ("colour = red", "Field 'colour' does not exist"),
        ("project = NOPE", "The value 'NOPE' does not exist for the field 'project'"),
        ("project CORE", "Expecting operator but got 'CORE'"),
        ("status in (Done", "Expecting ')'"),
        ("updated >= '2024-01-01 10:00:30'", "is invalid. Valid formats include"),
        ("project ~ CORE", "The operator '~' is not supported"),
        ("project = CORE status = Done", "Expecting either 'OR' or 'AND'"),
        ("project = CORE ORDER BY", "ends too early"),
        ("assignee is bob", "may only be used with EMPTY"),
    ],
)
def test_a_bad_query_is_refused_with_the_reason(cloud: Client, jql: str, message: str) -> None:
    response = cloud.raw("GET", "/rest/api/3/search/jql", params={"jql": jql})
    assert response.status_code == 400
    assert message in response.json()["errorMessages"][0]


def test_text_dates_are_the_owners_and_have_minutes_only() -> None:
    site = generate(0, time_zone="Asia/Kolkata")
    # 2024-05-01 12:00:30 in Kolkata, five and a half hours ahead.
    row = site.edit.add_issue("CORE", at=1_714_545_030_000)
    with serve(site) as server:
        client = Client(server)
        with client.session:
            assert count(client, "created >= '2024-05-01 12:00'") == 1
            assert count(client, "created >= '2024-05-01 12:01'") == 0
            assert count(client, f"created >= {row.created}") == 1
            assert client.get("/rest/api/3/myself")["timeZone"] == "Asia/Kolkata"
            fields = client.get(f"/rest/api/3/issue/{row.key}")["fields"]
    assert fields["created"] == "2024-05-01T12:00:30.000+0530"


def test_several_keys_order_in_both_directions(cloud: Client, site: Site) -> None:
    page = cloud.post(
        "/rest/api/3/search/jql", jql="id > 0 ORDER BY project ASC, created DESC", maxResults=120
    )
    expected = sorted(site.rows, key=lambda row: (row.project, -row.created))
    assert [int(each["id"]) for each in page["issues"]] == [row.id for row in expected]


# Server


def test_a_server_pages_by_offset_and_lowers_the_page(server: Client) -> None:
    ids: list[str] = []
    total = 1
    while len(ids) < total:
        page = server.get(
            "/rest/api/2/search", jql="ORDER BY updated, key", startAt=len(ids), maxResults=1000
        )
        assert page["maxResults"] == 100
        total = page["total"]
        ids += [issue["id"] for issue in page["issues"]]
    assert len(set(ids)) == total == 120


def test_a_server_gives_whole_changelogs_and_no_endpoint_for_them(server: Client) -> None:
    site = server.server.service.site  # type: ignore[attr-defined]
    key, histories = longest(site, "histories")
    page = server.post("/rest/api/2/search", jql=f"key = {key}", expand=["changelog"])
    changelog = page["issues"][0]["changelog"]
    assert [each["id"] for each in changelog["histories"]] == [each["id"] for each in histories]
    for path in (f"issue/{key}/changelog", "search/jql", "users/search"):
        assert server.raw("GET", f"/rest/api/2/{path}").status_code == 404
    assert server.raw("GET", "/rest/api/3/serverInfo").status_code == 404


def test_a_server_knows_people_by_name(server: Client) -> None:
    people: Any = server.get("/rest/api/2/user/search", username=".", includeInactive="true")
    assert {"name", "key"} <= set(people[0])
    assert not any("accountId" in person for person in people)


def test_a_server_refuses_a_key_that_does_not_exist(server: Client) -> None:
    params = {"jql": "key in (CORE-1, CORE-99999)"}
    assert server.raw("GET", "/rest/api/2/search", params=params).status_code == 400
    assert server.get("/rest/api/2/search", **params, validateQuery="none")["total"] == 1


# Rights


def test_only_accepted_credentials_are_let_in() -> None:
    with (
        serve(generate(1), accepted=["me@example.com:token"]) as server,
        requests.Session() as session,
    ):
        session.trust_env = False
        url = f"{server.url}/rest/api/3/myself"
        assert session.get(url, auth=("me@example.com", "token"), timeout=60).status_code == 200
        for auth in (("me@example.com", "old"), None):
            refused = session.get(url, auth=auth, timeout=60)
            assert refused.status_code == 401
            assert refused.json()["errorMessages"]
        assert session.get(f"{server.url}/rest/api/2/serverInfo", timeout=60).status_code == 200


def test_a_server_takes_an_access_token() -> None:
    site = generate(1, personality="server")
    with serve(site, accepted=["pat"]) as server, requests.Session() as session:
        session.trust_env = False
        url = f"{server.url}/rest/api/2/myself"
        for token, status in (("pat", 200), ("other", 401)):
            session.headers["Authorization"] = f"Bearer {token}"
            assert session.get(url, timeout=60).status_code == status


def test_rights_can_be_taken_away(cloud: Client, site: Site) -> None:
    everything = count(cloud, "id > 0")
    site.hide_project("WEB")
    assert count(cloud, "id > 0") == everything - sum(row.project == "WEB" for row in site.rows)
    assert cloud.raw("GET", "/rest/api/3/issue/WEB-1").status_code == 404
    cloud.server.service.forbidden = True  # type: ignore[attr-defined]
    assert cloud.raw("GET", "/rest/api/3/myself").status_code == 403


# The real client library


def test_the_real_library_reads_a_cloud_site(cloud: Client, site: Site) -> None:
    jira = JIRA(cloud.server.url, basic_auth=("me", "token"), validate=True)
    try:
        issues = jira.enhanced_search_issues("project = CORE", maxResults=False)
        assert {issue.key for issue in issues} == {r.key for r in site.rows if r.project == "CORE"}
        assert jira.approximate_issue_count("project = CORE") == len(issues)
        key, comments = longest(site, "comments")
        assert len(jira.comments(key)) == min(len(comments), 100)
        assert jira.myself()["accountId"] == next(iter(site.users))
    finally:
        jira.close()  # type: ignore[no-untyped-call]


def test_the_real_library_reads_a_server(server: Client) -> None:
    jira = JIRA(server.server.url, token_auth="pat")
    try:
        issues: Any = jira.search_issues("project is not EMPTY", maxResults=False)
        assert (len(issues), issues.total) == (120, 120)
        assert jira.server_info()["deploymentType"] == "Server"
    finally:
        jira.close()  # type: ignore[no-untyped-call]


def test_a_vast_site_is_searched_from_either_end() -> None:
    searcher = VastSearcher(VastSite(1_000))
    found = [
        searcher.find(f"created is not empty ORDER BY created {way}")[0] for way in ("ASC", "DESC")
    ]
    assert [row.index for row in found] == [0, 999]
