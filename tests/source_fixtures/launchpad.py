"""The source fixture of `launchpad`, served by the fake archive."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from temporaletl.external.launchpad.site import close_sites
from temporaletl.testing import FakeSourceFixture
from tests.fakes.exchange import Request
from tests.fakes.faults import ANSWERS, TRANSPORT, Faults
from tests.fakes.launchpad import LaunchpadService, expected_counts, generate
from tests.fakes.launchpad.archive import text_of
from tests.fakes.launchpad.service import OWN_FAULTS
from tests.fakes.server import FakeServer

_TARGET = re.compile(r"/(alpha|beta-tool|ubuntu(/\+source/bash)?)(/\+git)?(?=/)")
_KEY, _SECRET = "a-token-key-nobody-shall-see", "a-token-secret-nobody-shall-see"


class _Service(LaunchpadService):
    brief = True
    #: Hides everything private from the account.
    blind = False

    def _admit(self, request: Request) -> bool:
        return super()._admit(request) and not self.blind


class LaunchpadFixture(FakeSourceFixture):
    source = "launchpad"
    page_size_setting = "LP_PAGE_SIZE"
    read_timeout_setting = "LP_READ_TIMEOUT_SECONDS"
    secrets = (_KEY, _SECRET)
    wrong_credentials: ClassVar[Mapping[str, str]] = {"LP_ACCESS_TOKEN_SECRET": "another-secret"}
    scans: ClassVar[Mapping[str, str]] = {"LP_FIND_DELETED": "always"}
    faults = (*TRANSPORT, *ANSWERS, "500", "short-page", "empty-page", "total-too-large")

    def make_server(self) -> FakeServer:
        self.archive = generate(10, proposals=6, questions=6, people=4, seed=1)
        faults = Faults(known={**TRANSPORT, **OWN_FAULTS}, retry_after=timedelta(0))
        accepted = [f"a-consumer:{_KEY}:{_SECRET}"]
        for bug in list(self.archive.bugs.values())[4:6]:
            bug.private = True
        self.service = _Service(self.archive, accepted=accepted, batch_limit=5)
        return FakeServer(self.service, faults=faults)

    def environment(self, url: str) -> Mapping[str, str]:
        return {
            "LP_SERVICE_ROOT": url,
            "LP_MEMBERS": " ".join(self.archive.people),
            "LP_CONSUMER_KEY": "a-consumer",
            "LP_ACCESS_TOKEN_KEY": _KEY,
            "LP_ACCESS_TOKEN_SECRET": _SECRET,
            "LP_READ_TIMEOUT_SECONDS": "0.5",
        }

    def close(self) -> None:
        close_sites()

    def endpoint_of(self, request: Request) -> str:
        # Targets have names, and each has the same collections.
        return _TARGET.sub("/*", super().endpoint_of(request))

    def expected(self) -> Mapping[str, int]:
        counts = expected_counts(self.archive, list(self.archive.people))
        return {stream: types.total() for stream, types in counts.items()}

    def change(self, at: datetime) -> None:
        moment = text_of(at.astimezone(UTC))
        bug = next(iter(self.archive.bugs.values()))
        person = bug.owner or next(iter(self.archive.people))
        self.archive.edit.set_status(bug, person, "Triaged", at=moment)
        self.archive.edit.report_bug(person, bug.tasks[0].target, at=moment)

    def delete(self, at: datetime) -> None:  # noqa: ARG002 - Launchpad keeps no trace of it
        self.archive.edit.remove_bug(list(self.archive.bugs.values())[2])

    def corrupt(self) -> None:
        bug = list(self.archive.bugs.values())[3]
        bug.created = "some day"

    def poison(self, value: bytes) -> None:
        for begin in self._beginnings():
            self.corruptible.rewrites.append((begin, begin.replace(b",", b',"poison":%b,' % value)))

    def break_item(self) -> None:
        self.corruptible.unservable.add(self._beginnings()[0])

    def _beginnings(self) -> tuple[bytes, bytes]:
        """The bytes that begin the bug alone, and those that only its tasks hold."""
        number = list(self.archive.bugs)[3]
        return b'"id":%d,"name":' % number, b'/bugs/%d","title":' % number

    def see_less(self) -> None:
        self.service.blind = True

    def restore(self) -> None:
        super().restore()
        self.service.blind = False
