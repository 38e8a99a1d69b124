"""Types of Jira's issue JSON, with defaults for everything that may be absent."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from temporaletl import Json
from temporaletl.external.answers import DECODE_FAULTS, decode_record
from temporaletl.external.jira.settings import JiraFields
from temporaletl.worker.sources.jira.timestamps import Timestamp

Id = str | int


class Part(msgspec.Struct, rename="camel", gc=False, frozen=True):
    """Base of everything inside an issue; unknown fields are ignored."""


class Person(Part, frozen=True):
    """Cloud knows people by `account_id`, Data Center by `name` and `key`."""

    account_id: str | None = None
    name: str | None = None
    key: str | None = None
    email_address: str | None = None
    display_name: str | None = None
    account_type: str | None = None
    active: bool | None = None
    time_zone: str | None = None


class Named(Part, frozen=True):
    name: str | None = None
    key: str | None = None


class Comment(Part, frozen=True):
    id: Id
    author: Person | None = None
    update_author: Person | None = None
    body: Json = None
    created: Timestamp | None = None
    updated: Timestamp | None = None
    jsd_public: bool | None = None


class Worklog(Part, frozen=True):
    id: Id
    author: Person | None = None
    update_author: Person | None = None
    comment: Json = None
    created: Timestamp | None = None
    updated: Timestamp | None = None
    started: Timestamp | None = None
    time_spent: str | None = None
    time_spent_seconds: int | float | None = None


class Item(Part, frozen=True):
    """One changed field. `from` and `to` are ids where the field has them."""

    field: str | None = None
    field_id: str | None = None
    fieldtype: str | None = msgspec.field(default=None, name="fieldtype")
    from_: Json = msgspec.field(default=None, name="from")
    from_string: str | None = None
    to: Json = None
    to_string: str | None = msgspec.field(default=None, name="toString")


class History(Part, frozen=True):
    """A changelog entry: what one person changed at one time."""

    id: Id
    author: Person | None = None
    created: Timestamp | None = None
    items: Sequence[Item] | None = None


class Comments(Part, frozen=True):
    comments: Sequence[Comment] | None = None
    total: int | None = None


class Worklogs(Part, frozen=True):
    worklogs: Sequence[Worklog] | None = None
    total: int | None = None


class Changelog(Part, frozen=True):
    histories: Sequence[History] | None = None
    total: int | None = None


class Fields(Part, frozen=True):
    created: Timestamp | None = None
    updated: Timestamp | None = None
    creator: Person | None = None
    reporter: Person | None = None
    assignee: Person | None = None
    summary: str | None = None
    description: Json = None
    issuetype: Named | None = None
    status: Named | None = None
    priority: Named | None = None
    resolution: Named | None = None
    project: Named | None = None
    parent: Named | None = None
    labels: Sequence[str] | None = None
    components: Sequence[Named] | None = None
    fix_versions: Sequence[Named] | None = None
    comment: Comments | None = None
    worklog: Worklogs | None = None
    timeoriginalestimate: int | None = None


class Issue(Part, frozen=True):
    id: Id
    fields: Fields
    key: str | None = None
    changelog: Changelog | None = None


#: The fields that a search requests of every issue: those above.
SEARCHED_FIELDS = tuple(field.encode_name for field in msgspec.structs.fields(Fields))


def searched_fields(settings: JiraFields) -> tuple[str, ...]:
    """The fields that a search requests of each issue, those that settings choose included."""
    return tuple(dict.fromkeys((*SEARCHED_FIELDS, *settings.chosen_fields)))


class _AllFields(msgspec.Struct):
    fields: dict[str, Json]


def _simple(value: Json) -> Json:
    """A field's value: of an option, a version, a sprint or a person, its text."""
    if isinstance(value, list):
        return [_simple(one) for one in value]
    if isinstance(value, dict):
        for key in ("value", "accountId", "name", "key"):
            if value.get(key) is not None:
                return value[key]
    return value


def is_complete(entries: Sequence[Any] | None, total: int | None) -> bool:
    """Whether a list that came with its issue is complete."""
    return entries is not None and total is not None and len(entries) >= total


class IssueRecord:
    """One issue as fetched, and its complete lists once they are known.

    `complete` names the lists that are all there is: `comments`, `worklogs`, `histories`. `raw`
    is Jira's own JSON with those lists put in: what is kept when the issue is rejected, and what
    `read` takes.
    """

    __slots__ = ("comments", "complete", "fetched", "histories", "issue", "key", "worklogs")

    def __init__(self, fetched: bytes | msgspec.Raw, issue: Issue) -> None:
        self.fetched = fetched
        self.issue = issue
        self.key = issue.key
        fields, changelog = issue.fields, issue.changelog
        self.comments: Sequence[Comment] = (fields.comment and fields.comment.comments) or ()
        self.worklogs: Sequence[Worklog] = (fields.worklog and fields.worklog.worklogs) or ()
        self.histories: Sequence[History] = (changelog and changelog.histories) or ()
        self.complete: set[str] = set()
        if fields.comment and is_complete(fields.comment.comments, fields.comment.total):
            self.complete.add("comments")
        if fields.worklog and is_complete(fields.worklog.worklogs, fields.worklog.total):
            self.complete.add("worklogs")
        if changelog and is_complete(changelog.histories, changelog.total):
            self.complete.add("histories")

    @classmethod
    def read(cls, payload: Any) -> "IssueRecord":
        """Read an issue from Jira's JSON, encoded or not.

        Raises:
            RecordError: it is not an issue, or cannot be decoded at all.
        """
        if not isinstance(payload, bytes | msgspec.Raw):
            payload = msgspec.json.encode(payload)
        return cls(payload, decode_record(Issue, payload))

    @property
    def id(self) -> str:
        return str(self.issue.id)

    def chosen(self, fields: Mapping[str, str]) -> dict[str, Json]:
        """Return the properties that further fields become; None of one that the issue lacks."""
        found = decode_record(_AllFields, self.fetched).fields
        return {name: _simple(found.get(field)) for field, name in fields.items()}

    def total(self, name: str) -> int | None:
        """Return the total of a list's entries in Jira, as the issue reports it."""
        fields, changelog = self.issue.fields, self.issue.changelog
        lists = {"comments": fields.comment, "worklogs": fields.worklog, "histories": changelog}
        listed = lists[name]
        return None if listed is None else listed.total

    @property
    def raw(self) -> Json:
        try:
            whole = msgspec.json.decode(self.fetched)
        except DECODE_FAULTS:
            # Something in it that nobody reads: it is kept as it came.
            return bytes(self.fetched)
        if "comments" in self.complete:
            whole["fields"]["comment"] = {"comments": self.comments, "total": len(self.comments)}
        if "worklogs" in self.complete:
            whole["fields"]["worklog"] = {"worklogs": self.worklogs, "total": len(self.worklogs)}
        if "histories" in self.complete:
            whole["changelog"] = {"histories": self.histories, "total": len(self.histories)}
        return whole
