"""Issues as the bytes that answers are made of, kept while they fit in a bounded cache."""

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from tests.fakes.jira import richtext
from tests.fakes.jira.site import Issue, Json, Row, Site
from tests.fakes.jira.timestamps import parse

_encode = msgspec.json.Encoder().encode
_TIMES = ("created", "updated", "resolutiondate", "statuscategorychangedate", "lastViewed")
#: Fields that `*navigable` leaves out.
_NOT_NAVIGABLE = frozenset({"attachment", "timetracking", "issuelinks", "subtasks"})
_PAGED = frozenset({"comment", "worklog"})


@dataclass(slots=True)
class Rendered:
    """One issue in pieces of JSON; lists are oldest first."""

    revision: int
    head: bytes
    fields: dict[str, bytes]
    #: A history up to its time, the time as text, and in milliseconds.
    histories: list[tuple[bytes, bytes, int]]
    comments: list[bytes]
    worklogs: list[bytes]
    all_fields: bytes
    navigable_fields: bytes
    size: int = field(default=0)

    def history(self, number: int, *, epoch: bool = False) -> bytes:
        """Return one history; `epoch` writes its time in milliseconds."""
        head, text, milliseconds = self.histories[number]
        return head + (b"%d}" % milliseconds if epoch else b'"' + text + b'"}')


@dataclass(frozen=True, slots=True)
class Selection:
    """Which fields are wanted, and whether the histories are too."""

    names: tuple[str, ...] = ("*all",)
    changelog: bool = False

    @classmethod
    def of(cls, fields: Iterable[str], expand: Iterable[str], default: str) -> "Selection":
        """Read the parameters of a request; each may hold several names parted by commas."""
        names = tuple(part.strip() for each in fields for part in each.split(",") if part.strip())
        expands = {part.strip() for each in expand for part in each.split(",")}
        return cls(names or (default,), "changelog" in expands)

    @property
    def beyond_ids(self) -> bool:
        """Whether anything but ids and keys is wanted."""
        return self.changelog or any(name not in {"id", "key"} for name in self.names)


class Renderer:
    """Turns a site's issues into JSON for one version of the REST API."""

    def __init__(self, site: Site, version: str, cache_bytes: int) -> None:
        self._site = site
        self._version = version
        self._documents = version == "3"
        self._cache: OrderedDict[int, Rendered] = OrderedDict()
        self._cache_bytes = cache_bytes
        self._used = 0
        self._guard = threading.Lock()
        #: JSON of each account's person, by the identity of the object that issues share.
        self._people: dict[int, msgspec.Raw] = {}

    @property
    def full(self) -> bool:
        """Whether the cache would have to drop an issue for the next one."""
        return self._used >= self._cache_bytes

    def get(self, row: Row) -> Rendered:
        """Return an issue's pieces, as the issue is now."""
        with self._guard:
            known = self._cache.get(row.id)
            if known is not None and known.revision == row.revision:
                self._cache.move_to_end(row.id)
                return known
        with self._site.lock:
            made = self._make(row)
        with self._guard:
            old = self._cache.pop(row.id, None)
            self._used += made.size - (old.size if old else 0)
            self._cache[row.id] = made
            while self._used > self._cache_bytes and len(self._cache) > 1:
                self._used -= self._cache.popitem(last=False)[1].size
        return made

    def issue(self, row: Row, wanted: Selection, *, histories: int | None) -> bytes:
        """Render one issue; `histories` caps the changelog on Cloud, where newest come first."""
        made = self.get(row)
        if wanted.names == ("id",) and not wanted.changelog:
            return b'{"id":"%d"}' % row.id
        parts = [made.head]
        if not {"id", "key"}.issuperset(wanted.names):
            parts += (b',"fields":{', self._fields(row, made, wanted.names), b"}")
        if wanted.changelog:
            parts += (b',"changelog":', self._changelog(made, histories))
        parts.append(b"}")
        return b"".join(parts)

    def _fields(self, row: Row, made: Rendered, names: tuple[str, ...]) -> bytes:
        dropped = {name[1:] for name in names if name.startswith("-")}
        requested = [name for name in names if not name.startswith("-")] or ["*all"]
        if not dropped and requested == ["*navigable"]:
            return made.navigable_fields
        if "*all" in requested and not dropped:
            pieces = [made.all_fields]
            chosen: Iterable[str] = _PAGED
        else:
            chosen = dict.fromkeys(requested)
            if "*all" in requested:
                chosen = [*made.fields, *_PAGED]
            elif "*navigable" in requested:
                chosen = [name for name in made.fields if name not in _NOT_NAVIGABLE] + requested
            chosen = [name for name in dict.fromkeys(chosen) if name not in dropped]
            pieces = [
                b'"%s":%s' % (name.encode(), made.fields[name])
                for name in chosen
                if name in made.fields
            ]
        limits = self._site.limits
        if "comment" in chosen:
            cap = limits.inline_comments if self._site.cloud else len(made.comments)
            pieces.append(b'"comment":' + self._inline(row, "comment", made.comments, cap))
        if "worklog" in chosen:
            cap = limits.inline_worklogs
            pieces.append(b'"worklog":' + self._inline(row, "worklog", made.worklogs, cap))
        return b",".join(piece for piece in pieces if piece)

    def _inline(self, row: Row, name: str, entries: list[bytes], cap: int) -> bytes:
        shown = entries[:cap]
        most = cap if name == "worklog" else max(len(shown), 1)
        return b'{"%ss":[%s],"maxResults":%d,"total":%d,"startAt":0,"self":"%s"}' % (
            name.encode(),
            b",".join(shown),
            most,
            len(entries),
            self.link(f"issue/{row.id}/{name}").encode(),
        )

    def _changelog(self, made: Rendered, cap: int | None) -> bytes:
        total = len(made.histories)
        numbers: Iterable[int] = range(total)
        if self._site.cloud:
            numbers = range(total - 1, -1, -1)[:cap]
        shown = [made.history(number) for number in numbers]
        return b'{"startAt":0,"maxResults":%d,"total":%d,"histories":[%s]}' % (
            len(shown),
            total,
            b",".join(shown),
        )

    def link(self, path: str) -> str:
        """Return the address of something in this version of the API."""
        return f"{self._site.base_url}/rest/api/{self._version}/{path}"

    def _make(self, row: Row) -> Rendered:
        issue = self._site.issue(row)
        fields = {name: _encode(value) for name, value in self._plain(issue).items()}
        link = self.link(f"issue/{row.id}")
        expand = "operations,versionedRepresentations,editmeta,changelog,renderedFields"
        head = _encode({"expand": expand, "id": str(row.id), "self": link, "key": row.key})[:-1]
        histories = [self._history(each) for each in issue.histories]
        comments = [
            _encode(self._entry(each, "body", f"{link}/comment")) for each in issue.comments
        ]
        worklogs = [self.worklog(row, each) for each in issue.worklogs]
        pairs = {name: b'"%s":%s' % (name.encode(), value) for name, value in fields.items()}
        all_fields = b",".join(pairs.values())
        navigable = b",".join(pair for name, pair in pairs.items() if name not in _NOT_NAVIGABLE)
        made = Rendered(
            row.revision, head, fields, histories, comments, worklogs, all_fields, navigable
        )
        # 60 bytes or so of bookkeeping for each piece.
        made.size = 3 * len(all_fields) + 60 * (2 * len(fields) + 10)
        made.size += sum(len(head) + 150 for head, _, _ in histories)
        made.size += sum(len(each) + 60 for each in (*comments, *worklogs))
        return made

    def _plain(self, issue: Issue) -> Json:
        """Return the fields as this version shows them, without those that are paged."""
        fields = {name: value for name, value in issue.fields.items() if name not in _PAGED}
        for name in _TIMES:
            if isinstance(fields.get(name), int):
                fields[name] = self._site.face.text(fields[name])
        for name in richtext.RICH_FIELDS & fields.keys():
            fields[name] = self._text(fields[name])
        return self._with_people(fields, ("creator", "reporter", "assignee"))

    def _with_people(self, holder: Json, names: tuple[str, ...]) -> Json:
        """Put ready JSON in place of the people; encoding them is most of the work otherwise.

        The holder must be the caller's own copy.
        """
        if not self._people:
            self._people = {
                id(user.person): msgspec.Raw(_encode(user.person))
                for user in self._site.users.values()
            }
        for name in names:
            ready = self._people.get(id(holder.get(name)))
            if ready is not None:
                holder[name] = ready
        return holder

    def _text(self, body: object) -> object:
        if self._documents:
            return richtext.to_adf(body, self._name)
        return richtext.to_wiki(body, cloud=self._site.cloud)

    def _name(self, account: str) -> str:
        user = self._site.users.get(account)
        return user.name if user else account

    def _history(self, history: Json) -> tuple[bytes, bytes, int]:
        rest = {name: value for name, value in history.items() if name != "created"}
        rest = self._with_people(rest, ("author",))
        created = history.get("created") or 0
        text = self._site.face.text(created)
        return _encode(rest)[:-1] + b',"created":', text.encode(), parse(created)

    def _entry(self, entry: Json, text: str, link: str) -> Json:
        shown = {"self": f"{link}/{entry['id']}", **entry}
        face = self._site.face
        for name in ("created", "updated", "started"):
            if isinstance(shown.get(name), int):
                shown[name] = face.text(shown[name])
        if text in shown:
            shown[text] = self._text(shown[text])
        return self._with_people(shown, ("author", "updateAuthor"))

    def worklog(self, row: Row, entry: Json) -> bytes:
        """Render one worklog."""
        return _encode(self._entry(entry, "comment", self.link(f"issue/{row.id}/worklog")))
