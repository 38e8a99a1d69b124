"""Where the fake Jira's data comes from: the seed, or recorded files."""

import json
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.fakes.jira import expected_counts, generate, load, serve
from tests.fakes.jira.load import RecordedDataError
from tests.fakes.jira.site import Site
from tests.fakes.jira.timestamps import parse

Json = dict[str, Any]

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "data" / "jira"
recorded = pytest.mark.skipif(not RECORDED.is_dir(), reason=f"no recorded data in {RECORDED}")


def everything(site: Site) -> list[Json]:
    found = []
    for row in site.rows:
        issue = site.issue(row)
        found.append([issue.fields, issue.histories, issue.comments, issue.worklogs])
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


def test_the_same_seed_makes_the_same_site() -> None:
    first, second = generate(25, seed=5), generate(25, seed=5)
    # Looking at one issue first must not change the others.
    second.issue(second.rows[20])
    assert everything(first) == everything(second)
    assert everything(first) != everything(generate(25, seed=6))


@pytest.mark.parametrize("personality", ["cloud", "server"])
def test_an_issue_agrees_with_what_searches_say_of_it(personality: str) -> None:
    site = generate(150, seed=2, personality=personality)
    for row in site.rows:
        issue = site.issue(row)
        assert issue.fields["status"]["name"] == row.status
        person = issue.fields["assignee"] or {}
        assert (person.get("accountId") or person.get("name")) == row.assignee
        for history in issue.histories:
            assert row.created <= history["created"] <= row.updated
        at: dict[str, str] = {"status": "To Do"}
        for each in (item for history in issue.histories for item in history["items"]):
            if each["field"] in {"status", "assignee"}:
                assert at.get(each["field"], each["fromString"]) == each["fromString"]
                at[each["field"]] = each["toString"]
        assert at["status"] == row.status
        for entry in (*issue.comments, *issue.worklogs):
            assert row.created <= entry["created"] <= entry["updated"] <= row.updated
        assert site.worklogs(row) == issue.worklogs


def test_a_generated_site_has_the_awkward_cases() -> None:
    site = generate(400, seed=1)
    issues = [site.issue(row) for row in site.rows]
    assert any(len(issue.histories) > 100 for issue in issues)
    assert any(len(issue.comments) > 100 for issue in issues)
    assert any(len(issue.worklogs) > 20 for issue in issues)
    assert any(issue.fields["reporter"] is None for issue in issues)
    assert any(
        len({item["field"] for item in history["items"]}) < len(history["items"])
        for issue in issues
        for history in issue.histories
    )
    stamps = [row.updated for row in site.rows]
    assert len(set(stamps)) < len(stamps)
    assert any("emailAddress" not in user.person for user in site.users.values())
    ids = [each["id"] for issue in issues for each in issue.histories]
    assert len(set(ids)) == len(ids)
    counts = expected_counts(site)
    assert counts.changelog_items > counts.histories
    assert counts.comments_edited > 0 < counts.worklogs_edited


def issue_line(id_: int = 1, **more: Any) -> Json:
    person = {"accountId": "a1", "displayName": "Ann", "timeZone": "Asia/Tokyo"}
    fields = {
        "summary": "old",
        "created": "2024-01-01T00:00:00.000+0900",
        "updated": "2024-01-02T00:00:00.500+0900",
        "status": {"id": "1", "name": "Open"},
        "creator": person,
        "project": {"id": "1", "key": "AB", "name": "Ab"},
        **more.pop("fields", {}),
    }
    return {"id": str(id_), "key": f"AB-{id_}", "fields": fields, **more}


def history(id_: int, day: int) -> Json:
    items = [{"field": "status", "fieldId": "status", "toString": "Open"}]
    return {"id": str(id_), "created": f"2024-01-{day:02d}T00:00:00.000+0900", "items": items}


def write(path: Path, *records: Json) -> Path:
    path.write_text("\n".join(json.dumps(record) for record in records) + "\n")
    return path


def test_two_versions_of_an_issue_become_one(tmp_path: Path) -> None:
    older = issue_line(changelog={"histories": [history(1, 3), history(2, 2)]})
    newer = issue_line(fields={"summary": "new"}, changelog={"histories": [history(3, 1)]})
    site = load([write(tmp_path / "a.jsonl", older), write(tmp_path / "b.jsonl", newer)])
    [row] = site.rows
    issue = site.issue(row)
    assert issue.fields["summary"] == "new"
    assert [each["id"] for each in issue.histories] == ["3", "2", "1"]
    assert (row.created, row.updated) == (1_704_034_800_000, 1_704_121_200_500)
    assert (issue.comments, issue.worklogs) == ([], [])
    assert site.face.zone.key == "Asia/Tokyo"


def test_times_stay_as_recorded_and_totals_tell_what_is_held(tmp_path: Path) -> None:
    comment = {"id": "7", "body": "hi", "created": "2024-01-01T00:00:00.000+0900"}
    line = issue_line(fields={"comment": {"comments": [comment], "total": 9}})
    site = load([write(tmp_path / "a.jsonl", line)])
    with serve(site) as server, requests.Session() as session:
        issue = session.get(f"{server.url}/rest/api/2/issue/AB-1", timeout=60).json()
        page = session.get(f"{server.url}/rest/api/2/issue/1/comment", timeout=60).json()
    assert issue["fields"]["updated"] == "2024-01-02T00:00:00.500+0900"
    assert (page["total"], page["comments"][0]["body"]) == (1, "hi")


def test_people_take_the_shape_of_the_site(tmp_path: Path) -> None:
    server_person = {"name": "bob", "key": "bob", "displayName": "Bob"}
    path = write(tmp_path / "a.jsonl", issue_line(fields={"creator": server_person}))
    assert list(load([path]).users) == ["recorded:bob"]
    assert list(load([path], personality="server").users) == ["bob"]


def test_a_line_that_is_no_issue_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", issue_line(), {"id": "x"})
    with pytest.raises(RecordedDataError, match=r"a\.jsonl:2"):
        load([path])


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("2024-01-01T00:00:00.000+0000", 1_704_067_200_000),
        ("2024-01-01T05:30:00.25+05:30", 1_704_067_200_250),
        ("2023-12-31T16:00:00-0800", 1_704_067_200_000),
        ("2024-01-01T00:00:00Z", 1_704_067_200_000),
    ],
)
def test_times_are_read_with_their_offset(text: str, milliseconds: int) -> None:
    assert parse(text) == milliseconds


@recorded
def test_recorded_cloud_issues_are_served() -> None:
    paths = [RECORDED / f"{name}_issues.jsonl" for name in ("devlake_cloud", "jirametrics")]
    site = load(paths)
    assert len(site.rows) == 43
    assert expected_counts(site).histories > 500
    with serve(site) as server, requests.Session() as session:
        found = session.post(
            f"{server.url}/rest/api/3/search/jql",
            json={"jql": "project = SP ORDER BY key", "fields": ["*all"], "expand": "changelog"},
            timeout=60,
        ).json()
    assert len(found["issues"]) == 10


@recorded
def test_recorded_server_issues_are_served() -> None:
    site = load([RECORDED / "tidev_issues.jsonl"], personality="server")
    with serve(site) as server, requests.Session() as session:
        found = session.get(
            f"{server.url}/rest/api/2/search",
            params={"jql": "project is not empty", "fields": "*all", "maxResults": "1000"},
            timeout=60,
        ).json()
    assert (found["total"], len(found["issues"])) == (300, 100)
    assert expected_counts(site).comments_created == 1823
