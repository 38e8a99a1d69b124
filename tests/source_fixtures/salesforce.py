"""The source fixture of `salesforce`, served by the fake org."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar

from temporaletl.external.salesforce.org import close_orgs
from temporaletl.testing import FakeSourceFixture
from tests.fakes.faults import ANSWERS, TRANSPORT, Faults
from tests.fakes.salesforce import Doors, expected_counts, generate, serve
from tests.fakes.salesforce.service import OWN_FAULTS
from tests.fakes.server import FakeServer

_SECRET = "a-consumer-secret-nobody-shall-see"


class SalesforceFixture(FakeSourceFixture):
    source = "salesforce"
    page_size_setting = "SF_PAGE_SIZE"
    read_timeout_setting = "SF_READ_TIMEOUT_SECONDS"
    secrets = (_SECRET,)
    wrong_credentials: ClassVar[Mapping[str, str]] = {"SF_CONSUMER_SECRET": "another-secret"}
    faults = (
        *TRANSPORT,
        *ANSWERS,
        "short-page",
        "empty-page",
        "server-unavailable",
        "changing-rows",
    )
    unsettling = ("changing-rows",)
    _unseen: Mapping[str, Any] | None = None

    def make_server(self) -> FakeServer:
        self.org = generate(20, seed=1)
        faults = Faults(known={**TRANSPORT, **OWN_FAULTS}, retry_after=timedelta(0))
        return serve(self.org, faults=faults, doors=Doors(apps={"app": _SECRET}))

    def environment(self, url: str) -> Mapping[str, str]:
        return {
            "SF_INSTANCE_URL": url,
            "SF_CONSUMER_KEY": "app",
            "SF_CONSUMER_SECRET": _SECRET,
            "SF_READ_TIMEOUT_SECONDS": "0.5",
        }

    def close(self) -> None:
        close_orgs()

    def expected(self) -> Mapping[str, int]:
        return {"employees": expected_counts(self.org)["employees"]}

    def change(self, at: datetime) -> None:
        case = self.org.all("Case")[0]
        self.org.change(case, at, case["CreatedById"], Status="Closed")
        self.org.add("Task", at, by=case["CreatedById"], Subject="A new task")

    def delete(self, at: datetime) -> None:
        case = self.org.all("Case")[2]
        self.org.delete(case, at, case["CreatedById"])

    def corrupt(self) -> None:
        case = self.org.all("Case")[3]
        case["CreatedDate"] = "some day"
        self.org.note_edits()

    def poison(self, value: bytes) -> None:
        begin = self._beginning()
        self.corruptible.rewrites.append((begin, b'"poison":%b,%b' % (value, begin)))

    def break_item(self) -> None:
        self.corruptible.unservable.add(self._beginning())

    def _beginning(self) -> bytes:
        return f'"Id":"{self.org.all("Case")[3]["Id"]}"'.encode()

    def see_less(self) -> None:
        task = self.org.all("Task")[3]
        self._unseen = self.org.rows["Task"].pop(task["Id"])
        self.org.note_edits()

    def restore(self) -> None:
        super().restore()
        if self._unseen is not None:
            self.org.rows["Task"][self._unseen["Id"]] = dict(self._unseen)
            self.org.note_edits()
