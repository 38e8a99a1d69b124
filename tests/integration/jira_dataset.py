"""A copy of a Jira in a real Trino, and reading it as the platform does."""

import asyncio
import contextlib
import json
import os
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import requests

from temporaletl import (
    ETLInput,
)
from temporaletl.external.jira.site import close_sites
from temporaletl.external.trino.server import close_servers
from temporaletl.messages import Mode
from temporaletl.queuer.scans import scan_jobs
from temporaletl.queuer.sources.jira.inputs import expand_backlog
from temporaletl.queuer.sources.jira.params import describe_backlog
from temporaletl.worker.sources.jira import transform
from temporaletl.worker.sources.jira.extract import issues as extract_issues
from tests.fakes.jira import serve
from tests.fakes.jira.site import Limits, Site
from tests.fakes.server import FakeServer
from tests.integration import job_reading
from tests.integration.job_reading import Read, plan_of
from tests.integration.trino_server import TrinoServer

#: Lists in answers are cut off after so many; the issue itself still tells how many there are.
SHORT = Limits(inline_comments=2, inline_worklogs=2, issue_histories=10_000)
WHOLE = Limits(inline_comments=10_000, inline_worklogs=10_000, issue_histories=10_000)
_STATEMENT_CHARACTERS = 400_000
#: Importing them registers the strategies.
REGISTERED = (extract_issues, transform)
BOTH = pytest.mark.parametrize("personality", ["cloud", "server"])

Json = dict[str, Any]


def literal(value: str | None) -> str:
    return "NULL" if value is None else "'" + value.replace("'", "''") + "'"


class Dataset:
    """Tables of the test's own, and an environment that leads to them."""

    def __init__(self, trino: TrinoServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trino = trino
        self.monkeypatch = monkeypatch
        self._stack = contextlib.ExitStack()
        self.set(TRINO_HOST=trino.host, TRINO_PORT=str(trino.port), JIRA_EXTRACT_FROM="trino")
        self.table = f"memory.test.issues_{uuid.uuid4().hex[:12]}"
        self.set(JIRA_TRINO_ISSUES=self.table, JIRA_TRINO_USERS="none")

    def set(self, **variables: str) -> None:
        for name, value in variables.items():
            self.monkeypatch.setenv(name, value)

    def fill(self, issues: list[Json], *, kind: str = "varchar") -> None:
        """Make the table anew of issues as Jira gives them."""
        rows = [
            (
                issue["id"],
                issue["key"],
                issue["self"],
                *(json.dumps(issue[name]) for name in ("fields", "changelog")),
            )
            for issue in issues
        ]
        self.fill_rows(rows, kind=kind)

    def fill_rows(self, rows: list[tuple[str | None, ...]], *, kind: str = "varchar") -> None:
        self.trino.execute(f"DROP TABLE IF EXISTS {self.table}")
        self.trino.execute(
            f"CREATE TABLE {self.table} "
            "(id varchar, key varchar, self varchar, fields varchar, changelog varchar)"
        )
        values = [f"({', '.join(map(literal, row))})" for row in rows]
        while values:
            some = [values.pop()]
            while values and sum(map(len, some)) + len(values[-1]) < _STATEMENT_CHARACTERS:
                some.append(values.pop())
            self.trino.execute(f"INSERT INTO {self.table} VALUES {', '.join(some)}")
        if kind == "json":
            texts = ("fields", "changelog")
            parsed = ", ".join(f"json_parse({name}) AS {name}" for name in texts)
            other = f"{self.table}_json"
            self.trino.execute(
                f"CREATE VIEW {other} SECURITY INVOKER AS "
                f"SELECT id, key, self, {parsed} FROM {self.table}"
            )
            self.set(JIRA_TRINO_ISSUES=other)

    def serve(self, site: Site, *, with_credentials: bool = False) -> FakeServer:
        """Serve the site that the dataset is a copy of."""
        server = self._stack.enter_context(serve(site))
        if with_credentials:
            self.set(JIRA_URL=server.url)
            if site.cloud:
                self.set(JIRA_EMAIL="a@example.com", JIRA_API_TOKEN="x")
            else:
                self.set(JIRA_PERSONAL_TOKEN="x")
        return server

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def dataset(
    trino_server: TrinoServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Dataset]:
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith(("TRINO_", "GCP_", "GOOGLE_", "JIRA_"))]:
        monkeypatch.delenv(name)
    made = Dataset(trino_server, monkeypatch)
    yield made
    close_servers()
    close_sites()
    made.close()


def copied(server: FakeServer, site: Site) -> list[Json]:
    """The issues as the site gives them, one by one."""
    version = 3 if site.cloud else 2
    found = []
    for row in site.rows:
        path = f"{server.url}/rest/api/{version}/issue/{row.id}"
        answer = requests.get(path, params={"expand": "changelog"}, timeout=60)
        found.append(answer.json())
    return found


def jobs_of(mode: Mode = "full", *, scan: bool = False, **more: Any) -> list[ETLInput]:
    plan = plan_of("jira", ["issues"], mode, **more)
    backlog = asyncio.run(describe_backlog(plan))
    return list(scan_jobs(plan, backlog) if scan else expand_backlog(plan, backlog))


def read(
    jobs: list[ETLInput], *, size: int = 20, cursor: Any = None, pages: int | None = None
) -> Read:
    return asyncio.run(
        job_reading.read(jobs, size=size, cursor=cursor, most_pages=pages, patience=0)
    )


def over_the_api(dataset: Dataset, read_it: Callable[[], Read]) -> Read:
    dataset.set(JIRA_EXTRACT_FROM="api")
    found = read_it()
    dataset.set(JIRA_EXTRACT_FROM="trino")
    return found


def without_api(dataset: Dataset) -> None:
    for name in ("JIRA_URL", "JIRA_EMAIL", "JIRA_API_TOKEN", "JIRA_PERSONAL_TOKEN"):
        dataset.monkeypatch.delenv(name, raising=False)


def issue(number: int, updated: datetime, **fields: Any) -> Json:
    """A small issue, its times as Jira writes them."""
    zone = timezone(timedelta(hours=5, minutes=30))
    text = updated.astimezone(zone).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "+0530"
    return {
        "id": str(number),
        "key": f"P-{number}",
        "self": f"https://jira.example/{number}",
        "fields": {
            "created": "2024-05-01T10:00:00.000+0200",
            "updated": text,
            "comment": {"comments": [], "total": 0},
            "worklog": {"worklogs": [], "total": 0},
        }
        | fields,
        "changelog": {"histories": [], "total": 0},
    }


DAY = datetime(2025, 6, 1, tzinfo=UTC)
