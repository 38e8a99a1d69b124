"""Recorded issues as a site: JSON lines, one issue each, as the REST API gave them."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from tests.fakes.jira.catalogue import Catalogue, field_of
from tests.fakes.jira.people import account_of, as_seen_on
from tests.fakes.jira.site import Issue, Limits, Personality, Row, Site, User
from tests.fakes.jira.timestamps import parse

Json = dict[str, Any]


class RecordedDataError(ValueError):
    """A line of a data file is not an issue."""


def load(
    paths: Iterable[Path | str],
    *,
    personality: Personality | str = Personality.CLOUD,
    limits: Limits | None = None,
    time_zone: str | None = None,
    clock: Callable[[], int] | None = None,
) -> Site:
    """Read files of recorded issues into one site.

    An issue that occurs more than once is one issue: later fields win, and histories, comments
    and worklogs are united by id. A list that was recorded short stays short, and the site's
    totals say what it holds. `time_zone` is the token owner's, by default the first user's.

    Raises:
        RecordedDataError: a line is not an issue.
    """
    personality = Personality(personality)
    merged: dict[int, Json] = {}
    for path in map(Path, paths):
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            if line.strip():
                try:
                    record = msgspec.json.decode(line)
                    _merge(merged.setdefault(int(record["id"]), {}), record)
                except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
                    raise RecordedDataError(f"{path}:{number}: not an issue: {error}") from error
    reader = _Reader(personality)
    rows = [reader.row(id_, record) for id_, record in sorted(merged.items())]
    users = list(reader.users.values())
    zone = time_zone or (users[0].time_zone if users else "UTC")
    return Site(
        personality, reader.catalogue, users, rows, limits=limits, time_zone=zone, clock=clock
    )


def _merge(into: Json, record: Json) -> None:
    """Unite two versions of one issue."""
    fields = record["fields"]
    into["key"] = record["key"]
    into.setdefault("fields", {}).update(
        {name: value for name, value in fields.items() if name not in {"comment", "worklog"}}
    )
    lists = {
        "histories": (record.get("changelog") or {}).get("histories"),
        "comments": (fields.get("comment") or {}).get("comments"),
        "worklogs": (fields.get("worklog") or {}).get("worklogs"),
    }
    for name, entries in lists.items():
        known = into.setdefault(name, {})
        known.update({str(entry["id"]): entry for entry in entries or []})


class _Reader:
    """Turns records into rows, gathering people and catalogues as it goes."""

    def __init__(self, personality: Personality) -> None:
        self.personality = personality
        self.users: dict[str, User] = {}
        self.catalogue = Catalogue(
            statuses={}, issue_types={}, priorities={}, resolutions={}, custom_fields={}
        )

    def row(self, id_: int, record: Json) -> Row:
        fields = {name: self._people(value) for name, value in record["fields"].items()}
        issue = Issue(
            fields,
            [self._people(each) for each in _oldest_first(record["histories"])],
            [self._people(each) for each in _oldest_first(record["comments"])],
            [
                {"issueId": str(id_), **self._people(each)}
                for each in _oldest_first(record["worklogs"])
            ],
        )
        self._catalogue(fields, issue.histories)
        key = str(record["key"])
        prefix, _, sequence = key.rpartition("-")
        project = fields.get("project") or {"id": prefix, "key": prefix, "name": prefix}
        self.catalogue.projects.setdefault(project.get("key") or prefix, project)
        created = parse(fields.get("created") or 0)
        return Row(
            id_,
            key,
            project.get("key") or prefix,
            int(sequence) if sequence.isdecimal() else id_,
            created,
            parse(fields.get("updated") or created),
            (fields.get("status") or {}).get("name", ""),
            (fields.get("issuetype") or {}).get("name", ""),
            account_of(fields.get("assignee")),
            tuple(fields.get("labels") or ()),
            issue=issue,
        )

    def _people(self, value: Any) -> Any:
        """Return a value with the people in it as this site shows them, each one noted."""
        if isinstance(value, list):
            return [self._people(each) for each in value]
        if not isinstance(value, dict):
            return value
        if "displayName" in value and ("accountId" in value or "name" in value):
            person = as_seen_on(self.personality, value)
            account = account_of(person)
            if account and account not in self.users:
                zone = str(person.get("timeZone") or "UTC")
                self.users[account] = User(account, person["displayName"], zone, person)
            return person
        return {name: self._people(each) for name, each in value.items()}

    def _catalogue(self, fields: Json, histories: list[Json]) -> None:
        for name, known in (
            ("status", self.catalogue.statuses),
            ("issuetype", self.catalogue.issue_types),
            ("priority", self.catalogue.priorities),
            ("resolution", self.catalogue.resolutions),
        ):
            value = fields.get(name)
            if value and value.get("name"):
                known.setdefault(value["name"], value)
        names = {
            item["fieldId"]: item["field"]
            for history in histories
            for item in history.get("items") or []
            if item.get("fieldId")
        }
        customs = self.catalogue.custom_fields
        for id_ in fields:
            number = id_.removeprefix("customfield_")
            if number != id_ and number.isdecimal() and (id_ not in customs or id_ in names):
                name = names.get(id_, f"Field {number}")
                customs[id_] = field_of(id_, name, "any")


def _oldest_first(entries: dict[str, Json]) -> list[Json]:
    def age(entry: Json) -> tuple[int, int]:
        id_ = str(entry["id"])
        return parse(entry.get("created") or 0), int(id_) if id_.isdecimal() else 0

    return sorted(entries.values(), key=age)
