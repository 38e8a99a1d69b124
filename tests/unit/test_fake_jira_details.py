"""The fake Jira cuts details short as the service does, and keeps the traces of changes."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.fakes.client import Client, Json
from tests.fakes.jira import Limits, Site, expected_counts, generate, serve
from tests.unit.fake_jira import MINUTE, client_of, count, longest

#: One of its 30 issues has more than 100 histories.
SEED = 0


@pytest.fixture
def site() -> Site:
    return generate(30, seed=SEED)


@pytest.fixture
def cloud(site: Site) -> Iterator[Client]:
    with client_of(site) as client:
        yield client


# Truncation


def test_changelogs_in_a_search_stop_at_forty_newest_first(cloud: Client, site: Site) -> None:
    key, histories = longest(site, "histories")
    assert len(histories) > 100
    page = cloud.post(
        "/rest/api/3/search/jql", jql=f"key = {key}", fields="key", expand="changelog"
    )
    changelog = page["issues"][0]["changelog"]
    assert changelog["total"] == len(histories)
    newest = [each["id"] for each in histories[-40:]]
    assert [each["id"] for each in changelog["histories"]] == newest[::-1]


def test_the_changelog_endpoint_gives_all_oldest_first(cloud: Client, site: Site) -> None:
    key, histories = longest(site, "histories")
    found: list[str] = []
    while True:
        page = cloud.get(f"/rest/api/3/issue/{key}/changelog", startAt=len(found), maxResults=999)
        assert len(page["values"]) <= 100
        found += [each["id"] for each in page["values"]]
        if page["isLast"]:
            break
    assert found == [each["id"] for each in histories]


def test_inline_worklogs_stop_at_twenty_and_total_tells(cloud: Client, site: Site) -> None:
    row = site.edit.add_issue("CORE")
    for _ in range(33):
        site.edit.add_worklog(row.key, 600)
    inline = cloud.get(f"/rest/api/3/issue/{row.key}", fields="worklog")["fields"]["worklog"]
    assert (len(inline["worklogs"]), inline["total"]) == (20, 33)
    page = cloud.get(f"/rest/api/3/issue/{row.key}/worklog")
    assert (len(page["worklogs"]), page["total"]) == (33, 33)


def test_inline_comments_stop_on_cloud_and_not_on_server() -> None:
    for personality, shown in (("cloud", 4), ("server", 9)):
        site = generate(1, personality=personality, limits=Limits(inline_comments=4))
        key = site.edit.add_issue("CORE").key
        for number in range(9):
            site.edit.add_comment(key, f"comment {number}")
        with serve(site) as server, requests.Session() as session:
            found = session.get(f"{server.url}/rest/api/2/issue/{key}", timeout=60).json()
        inline = found["fields"]["comment"]
        assert (len(inline["comments"]), inline["total"]) == (shown, 9)


# The bulk changelog


def test_the_bulk_changelog_pages_oldest_first_over_all_issues(cloud: Client, site: Site) -> None:
    ids = [str(row.id) for row in site.rows[:30]]
    times: list[int] = []
    found: set[tuple[str, str]] = set()
    body: Json = {"issueIdsOrKeys": ids, "maxResults": 50}
    while True:
        page = cloud.post("/rest/api/3/changelog/bulkfetch", **body)
        pairs = [
            (log["issueId"], each)
            for log in page["issueChangeLogs"]
            for each in log["changeHistories"]
        ]
        assert 0 < len(pairs) <= 50
        times += sorted(each["created"] for _, each in pairs)
        found |= {(issue_id, each["id"]) for issue_id, each in pairs}
        if "nextPageToken" not in page:
            break
        body["nextPageToken"] = page["nextPageToken"]
    assert times == sorted(times)
    expected = {
        (str(row.id), each["id"]) for row in site.rows[:30] for each in site.issue(row).histories
    }
    assert found == expected


def test_the_bulk_changelog_can_be_narrowed_to_fields(cloud: Client, site: Site) -> None:
    ids = [str(row.id) for row in site.rows]
    page = cloud.post("/rest/api/3/changelog/bulkfetch", issueIdsOrKeys=ids, fieldIds=["status"])
    for log in page["issueChangeLogs"]:
        for history in log["changeHistories"]:
            assert "status" in {each["fieldId"] for each in history["items"]}


def test_the_bulk_changelog_has_bounds(cloud: Client) -> None:
    cases: list[Json] = [
        {"issueIdsOrKeys": [str(number) for number in range(1001)]},
        {"issueIdsOrKeys": ["10000"], "fieldIds": [str(number) for number in range(11)]},
        {"issueIdsOrKeys": []},
    ]
    for body in cases:
        response = cloud.raw("POST", "/rest/api/3/changelog/bulkfetch", json=body)
        assert response.status_code == 400


# Content


def test_text_is_a_document_in_v3_and_markup_in_v2(cloud: Client, site: Site) -> None:
    who = site.rows[0].assignee or next(iter(site.users))
    key = site.edit.add_issue("CORE").key
    site.edit.add_comment(key, f"[~accountid:{who}] see [here|https://x.example]\n\nünd")
    plain = cloud.get(f"/rest/api/2/issue/{key}/comment")["comments"][0]["body"]
    document = cloud.get(f"/rest/api/3/issue/{key}/comment")["comments"][0]["body"]
    assert plain.startswith("[~accountid:")
    mention, text, link = document["content"][0]["content"]
    assert mention["attrs"]["id"] == who
    assert mention["attrs"]["text"] == f"@{site.users[who].name}"
    assert (text["text"], link["marks"][0]["attrs"]["href"]) == (" see ", "https://x.example")
    assert document["content"][1]["content"] == [{"type": "text", "text": "ünd"}]


def test_worklogs_are_listed_by_update_but_not_the_last_minute(cloud: Client, site: Site) -> None:
    now = site.clock()
    old = site.edit.add_worklog("CORE-1", 60, at=now - 2 * MINUTE)
    site.edit.add_worklog("CORE-1", 60, at=now)
    since = now - 3 * MINUTE
    listed = cloud.get("/rest/api/3/worklog/updated", since=since)
    assert [each["worklogId"] for each in listed["values"]] == [int(old["id"])]
    first = next(r for r in site.rows if r.key != "CORE-1" and site.worklogs(r))
    ids = [int(old["id"]), int(site.worklogs(first)[0]["id"]), 1]
    found: Any = cloud.post("/rest/api/3/worklog/list", ids=ids)
    assert [int(each["id"]) for each in found] == ids[:2]
    site.edit.delete_worklog("CORE-1", old["id"])
    gone = cloud.get("/rest/api/3/worklog/deleted", since=since)["values"]
    assert [each["worklogId"] for each in gone] == [int(old["id"])]


def test_worklog_pages_follow_their_links() -> None:
    site = generate(60, seed=SEED, limits=Limits(worklog_ids_page=10))
    found: list[int] = []
    with serve(site) as server, requests.Session() as session:
        url = f"{server.url}/rest/api/3/worklog/updated?since=0"
        while url:
            page = session.get(url, timeout=60).json()
            found += [each["worklogId"] for each in page["values"]]
            url = page.get("nextPage", "")
    assert len(set(found)) == expected_counts(site).worklogs_created


def test_changes_move_the_issue_and_leave_their_traces(cloud: Client, site: Site) -> None:
    before = expected_counts(site)
    row = site.edit.add_issue("CORE", at=1_800_000_000_000)
    site.edit.transition(row.key, "Done", at=1_800_000_001_000)
    comment = site.edit.add_comment(row.key, "first", at=1_800_000_002_000)
    site.edit.edit_comment(row.key, comment["id"], "second", at=1_800_000_003_000)
    assert count(cloud, "updated = 1800000003000 AND status = Done") == 1
    after = expected_counts(site)
    assert after.events == before.events + 4
    assert after.comments_edited == before.comments_edited + 1
    site.edit.delete_comment(row.key, comment["id"], at=1_800_000_004_000)
    changelog = cloud.get(f"/rest/api/3/issue/{row.key}/changelog")["values"]
    assert [each["items"][0]["field"] for each in changelog] == ["status", "Comment"]
    site.edit.delete_issue(row.key)
    assert cloud.raw("GET", f"/rest/api/3/issue/{row.key}").status_code == 404
    assert expected_counts(site) == before
