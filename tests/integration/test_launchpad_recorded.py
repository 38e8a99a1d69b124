"""Recorded bugs of real projects: every event that the files hold, and no other.

What is expected is counted here from the files, by nothing that the source or the fake uses.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.launchpad import load
from tests.integration.job_reading import Serve, read
from tests.integration.launchpad_reading import jobs_of, served

__all__ = ["served"]

Json = dict[str, Any]


def held(
    bugs: Iterable[int], activity: Iterable[tuple[int, Json]], messages: Iterable[tuple[int, Json]]
) -> tuple[int, int, int]:
    """Count bugs, changes and comments, each by what identifies it."""
    fields = ("datechanged", "person_link", "whatchanged", "oldvalue", "newvalue", "message")
    changes = {(number, *(each[name] for name in fields)) for number, each in activity}
    comments = {
        (number, each["self_link"])
        for number, each in messages
        if not each["self_link"].endswith("/comments/0")
    }
    return len(set(bugs)), len(changes), len(comments)


def told(types: Counter[str]) -> tuple[int, int, int]:
    changed = sum(count for kind, count in types.items() if kind.endswith("_changed"))
    return types["bug_created"], changed, types["bug_commented"]


@pytest.mark.parametrize("by", ["members", "targets"])
async def test_joined_tasks_are_found_whole(served: Serve, recorded: Path, by: str) -> None:
    path = recorded / "launchpad" / "elk_launchpad.jsonl"
    tasks = [json.loads(line)["data"] for line in path.read_text("utf-8").splitlines()]
    expected = held(
        (task["bug_data"]["id"] for task in tasks),
        ((task["bug_data"]["id"], each) for task in tasks for each in task["activity_data"]),
        ((task["bug_data"]["id"], each) for task in tasks for each in task["messages_data"]),
    )
    archive = load([path])
    served(archive)
    asked: Json = {by: list(archive.people if by == "members" else archive.targets)}
    found = await read(await jobs_of("bugs", **asked), size=2)
    assert told(found.types) == expected
    assert not found.rejects
    owners = {
        f"bug:{task['bug_data']['id']}:created": task["bug_data"]["owner_link"].rpartition("~")[2]
        for task in tasks
    }
    assert {id_: found.events[id_].person for id_ in owners} == owners


async def test_single_answers_are_found_whole(served: Serve, recorded: Path) -> None:
    paths = sorted((recorded / "launchpad").glob("perceval_launchpad_*.json"))
    paths = [path for path in paths if "no_entries" not in path.name]
    listed = [path for path in paths if re.search(r"issues_page_\d\.json", path.name)]
    bugs = {
        int(entry["bug_link"].rpartition("/")[2])
        for path in listed
        for entry in json.loads(path.read_text("utf-8"))["entries"]
    }

    def entries(part: str) -> list[tuple[int, Json]]:
        return [
            (int(found[1]), entry)
            for path in paths
            if (found := re.search(rf"_issue_(\d+)_{part}(_next_\d+)?\.json", path.name))
            for entry in json.loads(path.read_text("utf-8"))["entries"]
        ]

    served(load(paths))
    found = await read(await jobs_of("bugs"), size=1)
    assert told(found.types) == held(bugs, entries("activities"), entries("comments"))
    assert not found.rejects
