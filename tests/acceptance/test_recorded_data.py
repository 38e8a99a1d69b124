"""Recorded sites of real projects: every event that the files hold, and no other.

What is expected is counted here from the files, by nothing that the platform or the fake uses.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.platform import Platform, platform_in
from tests.fakes.jira import load, serve

_FILES = {
    "devlake_cloud_issues.jsonl": "cloud",
    "jirametrics_issues.jsonl": "cloud",
    "tidev_issues.jsonl": "server",
}


@dataclass
class Held:
    """The expected events of a file, by its own ids: it may hold several versions of an issue."""

    issues: set[str] = field(default_factory=set)
    changes: set[tuple[str, int]] = field(default_factory=set)  # history, item
    comments: dict[str, bool] = field(default_factory=dict)  # edited?
    worklogs: dict[str, bool] = field(default_factory=dict)

    def read(self, issue: dict[str, Any]) -> None:
        self.issues.add(issue["id"])
        for history in (issue.get("changelog") or {}).get("histories", []):
            self.changes |= {(history["id"], n) for n in range(len(history["items"]))}
        for remarks, within, listed in (
            (self.comments, "comment", "comments"),
            (self.worklogs, "worklog", "worklogs"),
        ):
            for each in (issue["fields"].get(within) or {}).get(listed, []):
                remarks[each["id"]] = each["updated"] != each["created"]

    def counts(self) -> dict[str, int]:
        found = {
            "issue_created": len(self.issues),
            "changed": len(self.changes),
            "comment_created": len(self.comments),
            "comment_updated": sum(self.comments.values()),
            "worklog_created": len(self.worklogs),
            "worklog_updated": sum(self.worklogs.values()),
        }
        return {kind: count for kind, count in found.items() if count}


def held_in(path: Path) -> Held:
    held = Held()
    for issue in issues_of(path):
        held.read(issue)
    return held


def issues_of(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


@pytest.fixture(scope="module", params=sorted(_FILES))
def recording(request: pytest.FixtureRequest, recorded: Path) -> Path:
    return recorded / "jira" / str(request.param)


@pytest.fixture(scope="module")
def platform(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    personality = _FILES[recording.name]
    with serve(load([recording], personality=personality)) as server:
        access = (
            {"JIRA_EMAIL": "me@example.com", "JIRA_API_TOKEN": "a-token"}
            if personality == "cloud"
            else {"JIRA_PERSONAL_TOKEN": "a-token"}
        )
        folder = tmp_path_factory.mktemp(recording.stem)
        with platform_in(folder, {"JIRA_URL": server.url, **access}) as running:
            yield running


def test_the_events_are_those_of_the_file_and_a_repeat_writes_nothing(
    platform: Platform, recording: Path
) -> None:
    held = held_in(recording)
    platform.execute("DROP TABLE IF EXISTS events CASCADE")  # of the other test; it comes back

    start = wal_position(platform)
    first = platform.load("jira", "--mode", "full")
    assert first.state == "completed"
    assert first.rows.rejected == 0
    found = platform.rows(
        "SELECT CASE WHEN event_type LIKE '%_changed' THEN 'changed' ELSE event_type END, "
        "count(*)::int FROM events GROUP BY 1"
    )
    assert dict(found) == held.counts()
    assert first.rows.inserted == sum(held.counts().values())

    before = warehouse_state(platform)
    loaded = wal_position(platform)
    again = platform.load("jira", "--mode", "full")
    assert (again.rows.inserted, again.rows.updated) == (0, 0)
    assert again.rows.unchanged == first.rows.inserted
    assert warehouse_state(platform) == before
    # The ledger, the run's log, and whole pages touched anew since a checkpoint; no rows.
    assert wal_position(platform) - loaded < (loaded - start) / 3


def test_comments_keep_their_ids_and_their_authors(platform: Platform, recording: Path) -> None:
    platform.load("jira", "--mode", "full")
    authors: dict[str, str | None] = {}
    for issue in issues_of(recording):
        comments = (issue["fields"].get("comment") or {}).get("comments", [])
        for comment in comments:
            person = comment.get("author") or {}
            authors[comment["id"]] = person.get("accountId") or person.get("name")
    found = platform.rows(
        "SELECT event_id, person FROM events WHERE event_type = 'comment_created'"
    )
    assert len(found) == len(authors)
    for event_id, employee in found:
        [comment] = [part for part in str(event_id).replace("-", ":").split(":") if part in authors]
        assert employee == authors[comment]


def wal_position(platform: Platform) -> int:
    [(position,)] = platform.rows("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")
    return int(position)


def warehouse_state(platform: Platform) -> list[tuple[Any, ...]]:
    """Location, writer and locker of every event's row: any write or lock changes them."""
    return platform.rows(
        "SELECT event_id, ctid::text, xmin::text, xmax::text FROM events ORDER BY event_id"
    )
