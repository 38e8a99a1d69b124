"""Archives from recorded answers of Launchpad.

Two shapes are read: tasks joined with their bug, messages and activity (JSON lines), and folders
of single REST answers, named after their content (`…_issue_1_comments.json`).
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from tests.fakes.launchpad.archive import (
    Archive,
    Bug,
    Change,
    Json,
    Message,
    Task,
    person,
    target,
    text_of,
)

_PART = re.compile(r"_issue_(\d+)(?:_(activities|comments))?(?:_next_\d+)?\.json$")
_PAGE = re.compile(r"_issues_page_\d+\.json$")
_USER = re.compile(r"_user_\d+\.json$")


class RecordedDataError(ValueError):
    """A file is not in the form that its name implies."""


def load(paths: Iterable[Path | str]) -> Archive:
    """Read recorded files into one archive; a bug that occurs in several is one bug.

    Raises:
        RecordedDataError: a file cannot be read as one of the two shapes.
    """
    reader = _Reader()
    for path in map(Path, paths):
        try:
            reader.read(path)
        except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
            raise RecordedDataError(f"{path}: {type(error).__name__}: {error}") from error
    return reader.archive()


class _Reader:
    def __init__(self) -> None:
        self.people: dict[str, Json] = {}
        self.bugs: dict[int, Bug] = {}
        self.targets: dict[str, Json] = {}

    def archive(self) -> Archive:
        bugs = [bug for bug in self.bugs.values() if bug.tasks]
        for bug in bugs:
            for name in bug.people():
                self.people.setdefault(name, person(name, name.title()))
        return Archive(self.people.values(), self.targets.values(), bugs)

    def read(self, path: Path) -> None:
        if path.suffix == ".jsonl":
            for line in path.read_bytes().splitlines():
                self._joined(msgspec.json.decode(line)["data"])
            return
        content = msgspec.json.decode(path.read_bytes())
        if _USER.search(path.name):
            self._person(content)
        elif _PAGE.search(path.name):
            for task in content["entries"]:
                self._task(task)
        elif found := _PART.search(path.name):
            number = int(found[1])
            match found[2]:
                case "activities":
                    self._changes(number, content["entries"])
                case "comments":
                    self._messages(number, content["entries"])
                case _:
                    self._bug({**content, "id": number})

    def _joined(self, task: Json) -> None:
        bug = task["bug_data"]
        for key in ("assignee_data", "owner_data"):
            if task.get(key):
                self._person(task[key])
        for entry in (*task["activity_data"], *task["messages_data"]):
            for key in ("person_data", "owner_data"):
                if entry.get(key):
                    self._person(entry[key])
        self._task(task)
        self._bug(bug)
        self._changes(bug["id"], task["activity_data"])
        self._messages(bug["id"], task["messages_data"])

    def _person(self, raw: Json) -> None:
        self.people[raw["name"]] = person(
            raw["name"], raw["display_name"], raw.get("time_zone") or "UTC"
        )

    def _of(self, number: int) -> Bug:
        return self.bugs.setdefault(number, Bug(number, "", "", None, "", ""))

    def _bug(self, raw: Json) -> None:
        bug = self._of(raw["id"])
        bug.raw = raw
        bug.title, bug.description = raw["title"], raw["description"]
        bug.owner = _name(raw["owner_link"])
        bug.created, bug.updated = _time(raw["date_created"]), _time(raw["date_last_updated"])

    def _task(self, raw: Json) -> None:
        bug = self._of(_number(raw["bug_link"]))
        path = re.sub(r"^https?://[^/]+/[^/]+/", "", raw["target_link"])
        kind = "distribution_source_package" if "/+source/" in path else "project"
        self.targets[path] = target(path, kind)
        if path not in {task.target for task in bug.tasks}:
            assignee = _name(raw["assignee_link"])
            bug.tasks.append(Task(path, raw["status"], raw["importance"], assignee, raw))

    def _changes(self, number: int, entries: Iterable[Json]) -> None:
        bug = self._of(number)
        for raw in entries:
            change = Change(
                _time(raw["datechanged"]),
                _name(raw["person_link"]),
                raw["whatchanged"],
                raw["oldvalue"],
                raw["newvalue"],
                raw["message"],
            )
            if change not in bug.changes:
                bug.changes.append(change)

    def _messages(self, number: int, entries: Iterable[Json]) -> None:
        bug = self._of(number)
        known = {message.index for message in bug.messages}
        for raw in entries:
            index = _number(raw["self_link"])
            if index not in known:
                known.add(index)
                at, who = _time(raw["date_created"]), _name(raw["owner_link"])
                bug.messages.append(Message(index, at, who, raw["content"], raw["subject"]))
        bug.messages.sort(key=lambda message: message.index)


def _number(link: str) -> int:
    return int(link.rstrip("/").rpartition("/")[2])


def _name(link: str | None) -> str | None:
    name = (link or "").rpartition("/~")[2]
    return name or None


def _time(text: Any) -> str:
    from datetime import datetime  # noqa: PLC0415

    return text_of(datetime.fromisoformat(text))
