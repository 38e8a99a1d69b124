"""The source fixtures of `jira`, served by a fake Cloud site and a fake Server."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import ClassVar

from temporaletl.external.jira.site import as_ms, close_sites
from temporaletl.testing import FakeSourceFixture
from tests.fakes.faults import ANSWERS, TRANSPORT, Faults
from tests.fakes.jira import JiraService, Limits, expected_counts, generate
from tests.fakes.jira.service import OWN_FAULTS
from tests.fakes.jira.site import User
from tests.fakes.server import FakeServer

_SECRET = "a-token-nobody-shall-see"
#: Small answers, so that few issues already need every kind of paging.
_SMALL = Limits(
    inline_comments=4, inline_worklogs=3, detail_page=20, bulk_page=60, bulk_page_most=60
)


class _JiraFixture(FakeSourceFixture):
    source = "jira"
    page_size_setting = "JIRA_PAGE_SIZE"
    read_timeout_setting = "JIRA_READ_TIMEOUT_SECONDS"
    secrets = (_SECRET,)
    scans: ClassVar[Mapping[str, str]] = {"JIRA_FIND_DELETED": "always"}
    personality: ClassVar[str]
    accepted: ClassVar[str]
    credentials: ClassVar[Mapping[str, str]]
    _hidden: str | None = None

    def make_server(self) -> FakeServer:
        self.site = generate(32, seed=1, personality=self.personality, limits=_SMALL)
        service = JiraService(self.site, accepted=[self.accepted])
        faults = Faults(known={**TRANSPORT, **OWN_FAULTS}, retry_after=timedelta(0))
        return FakeServer(service, faults=faults)

    def environment(self, url: str) -> Mapping[str, str]:
        return {"JIRA_URL": url, "JIRA_READ_TIMEOUT_SECONDS": "0.5", **self.credentials}

    def close(self) -> None:
        close_sites()

    def expected(self) -> Mapping[str, int]:
        return {"issues": expected_counts(self.site).events}

    def change(self, at: datetime) -> None:
        first = self.site.rows[0]
        self.site.edit.add_issue(first.project, at=as_ms(at))
        self.site.edit.transition(first.id, "Done", at=as_ms(at))

    def delete(self, at: datetime) -> None:  # noqa: ARG002 - Jira keeps no trace of it
        self.site.edit.delete_issue(self.site.rows[2].id)

    def corrupt(self) -> None:
        with self.site.lock:
            row = self.site.rows[5]
            self.site.pin(row).fields["created"] = None
            self.site.changed(row)

    def poison(self, value: bytes) -> None:
        begin = self._beginning_of(self.site.rows[5].id)
        self.corruptible.rewrites.append((begin, begin.replace(b",", b',"poison":%b,' % value)))

    def break_item(self) -> None:
        self.corruptible.unservable.add(self._beginning_of(self.site.rows[5].id))

    def _beginning_of(self, number: int) -> bytes:
        return b'"id":"%d","self":"' % number + f"{self.server.url}/rest/api/".encode()

    def see_less(self) -> None:
        self._owner = self.site.owner
        self.site.owner = self.seen_as()
        self._hidden = self.site.rows[5].project
        self.site.hide_project(self._hidden)

    def seen_as(self) -> User | None:
        """The account that the site names while it hides items; None: nobody."""
        return None

    def restore(self) -> None:
        super().restore()
        if self._hidden is not None:
            self.site.owner = self._owner
            self.site.show_project(self._hidden)


class JiraFixture(_JiraFixture):
    personality = "cloud"
    accepted = f"me@example.com:{_SECRET}"
    credentials: ClassVar[Mapping[str, str]] = {
        "JIRA_EMAIL": "me@example.com",
        "JIRA_API_TOKEN": _SECRET,
    }
    wrong_credentials: ClassVar[Mapping[str, str]] = {"JIRA_API_TOKEN": "some-other-token"}
    faults = (
        *TRANSPORT,
        *ANSWERS,
        "short-page",
        "empty-page",
        "expired-page-token",
        "repeated-page-token",
    )


class JiraServerFixture(_JiraFixture):
    personality = "server"
    accepted = _SECRET
    credentials: ClassVar[Mapping[str, str]] = {"JIRA_PERSONAL_TOKEN": _SECRET}
    wrong_credentials: ClassVar[Mapping[str, str]] = {"JIRA_PERSONAL_TOKEN": "some-other-token"}
    faults = (*TRANSPORT, *ANSWERS, "short-page", "total-too-large")

    def seen_as(self) -> User | None:
        return next(user for user in self.site.users.values() if user != self.site.owner)
