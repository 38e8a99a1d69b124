"""The side of dlt in scripts/bench/peers: Jira's issues into a table of events.

Runs with dlt's own Python, as a process that takes commands and answers them, one a line, in JSON:
the folder of the pipeline's state, and `since` when issues were updated, in milliseconds since
1970; null for all issues. Its start-up is over when it says that it is ready.

Three flavours, all with parallel requests, one table, and its documents in columns of type jsonb:

    arrow       pages as Arrow tables, which are not normalised row by row; COPY of CSV; an upsert
                that leaves equal rows alone. (Parquet through ADBC fills no columns of type jsonb.)
    tuned       rows as dictionaries; the same COPY and upsert; larger buffers, no compression
    default     rows as dictionaries; all as dlt comes: INSERT, merging by deletion and insertion
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from runpy import run_path
from time import perf_counter
from typing import Any

import dlt
import orjson
import pyarrow as pa
import requests
import xxhash
from requests.adapters import HTTPAdapter

Json = dict[str, Any]
Rows = dict[str, list[Any]]

PAGE = 100
#: At most: more than requests at once, so that one that holds more keeps nobody waiting.
SLICES = 24
FIELDS = (
    "created,updated,creator,reporter,assignee,summary,description,issuetype,status,priority,"
    "resolution,project,parent,labels,components,fixVersions,comment,worklog,timeoriginalestimate"
)
TEXTS = ("event_id", "event_type", "parent_item_id", "relation_type", "person", "timezone")
DOCUMENTS = ("event_properties", "relation_properties", "metrics")
TYPES: dict[str, Any] = {
    **dict.fromkeys(TEXTS, pa.string()),
    "event_time_utc": pa.timestamp("us", tz="UTC"),
    **dict.fromkeys(DOCUMENTS, pa.string()),
}
UPSERT = {"disposition": "merge", "strategy": "upsert", "skip_unchanged_rows": True}
SYSTEM = {"status", "assignee", "priority", "resolution", "summary", "description", "labels"}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MS = timedelta(milliseconds=1)


#: Our rendering of rich text: plain functions, and the tables that are compared hold its texts.
text_of: Callable[[Any], str] = run_path(
    str(Path(__file__).parents[2] / "temporaletl/worker/sources/jira/adf.py")
)["text_of"]


class Jira:
    """The site's REST API. dlt's threads make as many requests at once as there are threads."""

    def __init__(self, url: str, concurrency: int) -> None:
        self._url = f"{url}/rest/api/3/"
        self._session = requests.Session()
        self._session.auth = ("me@example.com", "made-up")
        self._session.mount("http://", HTTPAdapter(pool_maxsize=2 * concurrency))

    def get(self, path: str, **params: Any) -> Any:
        return self._answer("GET", path, params=params)

    def _answer(self, method: str, path: str, **options: Any) -> Any:
        answer = self._session.request(method, self._url + path, timeout=60, **options)
        answer.raise_for_status()
        return orjson.loads(answer.content)

    def count(self) -> int:
        query = {"jql": "created is not EMPTY"}
        return int(self._answer("POST", "search/approximate-count", json=query)["count"])

    def bounds(self) -> tuple[int, int] | None:
        """When the oldest and the newest issue were created."""
        found = []
        for direction in ("ASC", "DESC"):
            jql = f"created is not EMPTY ORDER BY created {direction}"
            page = self.get("search/jql", jql=jql, maxResults=1, fields="created")
            found += [ms_of(issue["fields"]["created"]) for issue in page["issues"]]
        return (found[0], found[1]) if found else None

    def issues(self, jql: str) -> Iterator[list[Json]]:
        """Pages of issues, each with all of its histories, comments and worklogs."""
        token: Json = {}
        while True:
            page = self.get("search/jql", jql=jql, maxResults=PAGE, fields=FIELDS, **token)
            if issues := page["issues"]:
                self._complete(issues)
                yield issues
            if not (following := page.get("nextPageToken")):
                return
            token = {"nextPageToken": following}

    def _complete(self, issues: list[Json]) -> None:
        histories: dict[str, list[Json]] = {issue["id"]: [] for issue in issues}
        query: Json = {"issueIdsOrKeys": [*histories], "maxResults": 1_000}
        while True:
            page = self._answer("POST", "changelog/bulkfetch", json=query)
            for log in page["issueChangeLogs"]:
                histories[log["issueId"]] += log["changeHistories"]
            if not (following := page.get("nextPageToken")):
                break
            query["nextPageToken"] = following
        for issue in issues:
            issue["histories"] = histories[issue["id"]]
            for name, entries in (("comment", "comments"), ("worklog", "worklogs")):
                listed = issue["fields"].get(name) or {entries: [], "total": 0}
                issue[entries] = listed[entries]
                if listed["total"] > len(listed[entries]):
                    issue[entries] = list(self._entries(issue["id"], name, entries))

    def _entries(self, issue: str, name: str, entries: str) -> Iterator[Json]:
        start = 0
        while True:
            page = self.get(f"issue/{issue}/{name}", startAt=start, maxResults=PAGE)
            yield from page[entries]
            start += len(page[entries])
            if start >= page["total"] or not page[entries]:
                return


def events_of(issues: Iterable[Json], rows: Rows) -> None:
    """Add the events of issues to the columns; documents as they are."""
    for issue in issues:
        _created(issue, rows)
        _changes(issue, rows)
        _entries(issue, rows)


def _add(
    rows: Rows,
    issue: Json,
    event_id: str,
    event_type: str,
    at: datetime,
    person: Json | None,
    properties: Json,
    *,
    relation: str = "author",
    metrics: Json | None = None,
) -> None:
    rows["event_id"].append(event_id)
    rows["event_type"].append(event_type)
    rows["parent_item_id"].append(issue["key"])
    rows["relation_type"].append(relation)
    rows["person"].append(id_of(person))
    rows["timezone"].append((person or {}).get("timeZone") or "UTC")
    rows["event_time_utc"].append(at)
    rows["event_properties"].append(properties)
    rows["relation_properties"].append(described(person))
    rows["metrics"].append(metrics or {})


def _created(issue: Json, rows: Rows) -> None:
    fields = issue["fields"]
    estimate = fields.get("timeoriginalestimate")
    properties = {
        "summary": fields.get("summary"),
        "description": text_of(fields.get("description")),
        **{short: _name(fields, long) for short, long in (("type", "issuetype"),)},
        **{name: _name(fields, name) for name in ("status", "priority", "resolution")},
        "project": (fields.get("project") or {}).get("key"),
        "parent": (fields.get("parent") or {}).get("key"),
        "labels": fields.get("labels") or [],
        "components": [one["name"] for one in fields.get("components") or ()],
        "fix_versions": [one["name"] for one in fields.get("fixVersions") or ()],
        "reporter": id_of(fields.get("reporter")),
        "assignee": id_of(fields.get("assignee")),
    }
    _add(
        rows,
        issue,
        f"{issue['id']}:created",
        "issue_created",
        utc(fields["created"]),
        fields.get("creator"),
        properties,
        relation="creator",
        metrics={} if estimate is None else {"original_estimate_seconds": estimate},
    )


def _changes(issue: Json, rows: Rows) -> None:
    for history in issue["histories"]:
        at, author, items = utc(history["created"]), history.get("author"), history["items"]
        for item, key in zip(items, _keys(items), strict=True):
            field_id = item.get("fieldId")
            name = (item.get("field") or "").lower()
            system = field_id or (None if item.get("fieldtype") == "custom" else name)
            kind = system if system in SYSTEM else "sprint" if name == "sprint" else "field"
            properties = {
                "field": item.get("field"),
                "field_id": field_id,
                "field_type": item.get("fieldtype"),
                "from": item.get("from"),
                "from_string": item.get("fromString"),
                "to": item.get("to"),
                "to_string": item.get("toString"),
            }
            event_id = f"{issue['id']}:changelog:{history['id']}:{key}"
            _add(rows, issue, event_id, f"{kind}_changed", at, author, properties)


def _keys(items: list[Json]) -> list[str]:
    keys = [_digest(item) for item in items]
    often, alike = Counter(keys), Counter[str]()
    for number, key in enumerate(keys):
        if often[key] > 1:
            fuller = _digest(items[number], with_texts=True)
            alike[fuller] += 1
            keys[number] = f"{fuller}:{alike[fuller]}" if alike[fuller] > 1 else fuller
    return keys


def _digest(item: Json, *, with_texts: bool = False) -> str:
    before, after = item.get("from"), item.get("to")
    text = f"{item.get('fieldId') or item.get('field')}\x1f{_text(before)}\x1f{_text(after)}"
    if with_texts or (before is None and after is None):
        text += f"\x1f{_text(item.get('fromString'))}\x1f{_text(item.get('toString'))}"
    return xxhash.xxh3_64_hexdigest(text.encode("utf-8", "surrogatepass"))


def _text(value: Any) -> str:
    return "" if value is None else f"={value}"


def _entries(issue: Json, rows: Rows) -> None:
    for kind in ("comment", "worklog"):
        for entry in issue[f"{kind}s"]:
            prefix, author = f"{issue['id']}:{kind}:{entry['id']}", entry.get("author")
            editor = entry.get("updateAuthor")
            said = _said(entry) if kind == "comment" else _worked(entry)
            seconds = entry.get("timeSpentSeconds")
            metrics = {} if seconds is None else {"time_spent_seconds": seconds}
            created = utc(entry["created"])
            created_id = f"{prefix}:created"
            _add(rows, issue, created_id, f"{kind}_created", created, author, said, metrics=metrics)
            updated = entry.get("updated")
            if updated in (None, entry["created"]) or utc(updated) == created:
                continue
            event_id = f"{prefix}:updated:{ms_of(updated)}"
            if kind == "worklog":
                said = {**said, "editor": id_of(editor)}
            person = author if kind == "worklog" else editor
            kind_of, at = f"{kind}_updated", utc(updated)
            _add(rows, issue, event_id, kind_of, at, person, said, metrics=metrics)


def _said(comment: Json) -> Json:
    said = {"comment_id": comment["id"], "body": text_of(comment.get("body"))}
    if comment.get("jsdPublic") is not None:
        said["public"] = comment["jsdPublic"]
    return said


def _worked(worklog: Json) -> Json:
    started = worklog.get("started")
    return {
        "worklog_id": worklog["id"],
        "started": None if started is None else utc(started).isoformat(),
        "time_spent": worklog.get("timeSpent"),
        "comment": text_of(worklog.get("comment")),
    }


def _name(fields: Json, name: str) -> str | None:
    return (fields.get(name) or {}).get("name")


def id_of(person: Json | None) -> str | None:
    if person is None:
        return None
    return person.get("accountId") or person.get("name") or person.get("key")


def described(person: Json | None) -> Json:
    known = {
        "display_name": (person or {}).get("displayName"),
        "email": (person or {}).get("emailAddress"),
        "account_type": (person or {}).get("accountType"),
    }
    found: Json = {name: value for name, value in known.items() if value}
    active = (person or {}).get("active")
    return found if active is None else {**found, "active": active}


def utc(value: str | int) -> datetime:
    if isinstance(value, int):
        return EPOCH + MS * value
    return datetime.fromisoformat(value).astimezone(UTC)


def ms_of(value: str | int) -> int:
    return (utc(value) - EPOCH) // MS


def _table(rows: Rows) -> pa.Table:
    for name in DOCUMENTS:
        rows[name] = [orjson.dumps(one).decode() for one in rows[name]]
    return pa.table({name: pa.array(rows[name], type=kind) for name, kind in TYPES.items()})


def _source(jira: Jira, flavour: str, since: int | None) -> Any:
    hints: dict[str, Any] = {name: {"data_type": "json"} for name in DOCUMENTS}
    hints |= {"event_time_utc": {"data_type": "timestamp", "timezone": True}}
    hints |= {name: {"data_type": "text"} for name in TEXTS}
    hints = {name: {"name": name, **hint} for name, hint in hints.items()}

    @dlt.resource(name="slices", selected=False)  # type: ignore[untyped-decorator]
    def slices() -> Iterator[str]:
        if since is not None:
            yield f"updated >= {since} ORDER BY updated ASC, key ASC"
        elif (bounds := jira.bounds()) is not None:
            low, high = bounds
            step = (high - low) // min(SLICES, jira.count() // PAGE + 1) + 1
            for start in range(low, high + 1, step):
                yield f"created >= {start} AND created < {start + step} ORDER BY created ASC"

    @dlt.transformer(  # type: ignore[untyped-decorator]
        data_from=slices,
        parallelized=True,
        primary_key="event_id",
        columns=hints,
        write_disposition="merge" if flavour == "default" else UPSERT,
        max_table_nesting=0,
    )
    def events(jql: str) -> Iterator[Any]:
        for issues in jira.issues(jql):
            rows: Rows = {name: [] for name in TYPES}
            events_of(issues, rows)
            if flavour == "arrow":
                yield _table(rows)
            else:
                names = tuple(rows)
                yield [
                    dict(zip(names, row, strict=True)) for row in zip(*rows.values(), strict=True)
                ]

    return [slices, events]


#: What is set in each flavour, by dlt's names in the environment.
SETTINGS = {
    "arrow": {
        "NORMALIZE__DATA_WRITER__DISABLE_COMPRESSION": "true",
        "DATA_WRITER__BUFFER_MAX_ITEMS": "50000",
    },
    "tuned": {
        "NORMALIZE__DATA_WRITER__DISABLE_COMPRESSION": "true",
        "DATA_WRITER__DISABLE_COMPRESSION": "true",
        "DATA_WRITER__BUFFER_MAX_ITEMS": "50000",
    },
    "default": {},
}


def main() -> None:
    flavour, url, database, concurrency = sys.argv[1:]
    os.environ |= {
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "RUNTIME__LOG_LEVEL": "ERROR",
        "EXTRACT__WORKERS": concurrency,
        **SETTINGS[flavour],
    }
    jira = Jira(url, int(concurrency))
    print(json.dumps({"ready": dlt.__version__}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        pipeline = dlt.pipeline(
            f"bench_{flavour}",
            pipelines_dir=command["folder"],
            destination=dlt.destinations.postgres(json.loads(database)),
            dataset_name=f"dlt_{flavour}",
        )
        began = perf_counter()
        pipeline.run(
            _source(jira, flavour, command["since"]),
            loader_file_format=None if flavour == "default" else "csv",
        )
        print(json.dumps({"seconds": perf_counter() - began}), flush=True)


if __name__ == "__main__":
    main()
