"""The source fixture of `servicetitan`, served by the fake tenant."""

import itertools
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import ClassVar

import msgspec

from temporaletl.external.servicetitan.site import close_sites
from temporaletl.testing import FakeSourceFixture
from tests.fakes.faults import ANSWERS, TRANSPORT, Faults
from tests.fakes.server import FakeServer
from tests.fakes.servicetitan import expected_counts, generate, serve
from tests.fakes.servicetitan.service import OWN_FAULTS
from tests.fakes.servicetitan.tenant import Row
from tests.fakes.servicetitan.timestamps import ticks

_SECRET = "a-client-secret-nobody-shall-see"
_APP_KEY = "an-app-key-nobody-shall-see"
_TABLES = ("st_customers", "st_jobs", "st_invoices", "st_estimates")


class ServiceTitanFixture(FakeSourceFixture):
    source = "servicetitan"
    page_size_setting = "SERVICETITAN_PAGE_SIZE"
    read_timeout_setting = "SERVICETITAN_READ_TIMEOUT_SECONDS"
    secrets = (_SECRET, _APP_KEY)
    wrong_credentials: ClassVar[Mapping[str, str]] = {
        "SERVICETITAN_CLIENT_SECRET": "some-other-secret"
    }
    faults = (*TRANSPORT, *ANSWERS, "short-page", "empty-page", "repeated-token", "more-at-end")
    time_columns: ClassVar[Mapping[str, str]] = dict.fromkeys(_TABLES, "modified_on")
    exact_windows = False
    _unseen: Row | None = None

    def make_server(self) -> FakeServer:
        self.tenant = generate(25, seed=1)
        # The feed keeps nothing back, and its present is that of the data.
        self.tenant.withheld_seconds = 0
        self.tenant.clock = lambda: ticks(self.now)
        faults = Faults(known={**TRANSPORT, **OWN_FAULTS}, retry_after=timedelta(0))
        return serve(
            self.tenant,
            faults=faults,
            client=f"cid.fake:{_SECRET}",
            app_key=_APP_KEY,
            export_rows=7,
        )

    def environment(self, url: str) -> Mapping[str, str]:
        return {
            "SERVICETITAN_URL": url,
            "SERVICETITAN_AUTH_URL": url,
            "SERVICETITAN_CLIENT_ID": "cid.fake",
            "SERVICETITAN_CLIENT_SECRET": _SECRET,
            "SERVICETITAN_APP_KEY": _APP_KEY,
            "SERVICETITAN_TENANT_ID": str(self.tenant.number),
            "SERVICETITAN_READ_TIMEOUT_SECONDS": "0.5",
        }

    def close(self) -> None:
        close_sites()

    def expected(self) -> Mapping[str, int]:
        return expected_counts(self.tenant).records

    def change(self, at: datetime) -> None:
        self.tenant.clock = lambda: ticks(at)
        for stream, collection in self.tenant.collections.items():
            row = next(iter(collection.rows.values()))
            self.tenant.change(stream, row, at=ticks(at))
            self.tenant.add(stream, at=ticks(at))

    def delete(self, at: datetime) -> None:
        self.tenant.clock = lambda: ticks(at)
        for stream, collection in self.tenant.collections.items():
            self.tenant.delete(stream, list(collection.rows.values())[2])

    def corrupt(self) -> None:
        customers = self.tenant.collections["customers"]
        row = list(customers.rows.values())[5]
        self.tenant.change("customers", row, at=row.modified, createdOn="some day")

    def poison(self, value: bytes) -> None:
        begin = self._beginning()
        self.corruptible.rewrites.append((begin, b'%b"poison":%b,' % (begin, value)))

    def break_item(self) -> None:
        self.corruptible.unservable.add(self._beginning())

    def _beginning(self) -> bytes:
        """The first bytes of a customer's record, which differ from its mention in an invoice."""
        customers = self.tenant.collections["customers"]
        record = customers.record(list(customers.rows.values())[5])
        first = dict(itertools.islice(record.items(), 3))
        return msgspec.json.encode(first)[:-1] + b","

    def see_less(self) -> None:
        customers = self.tenant.collections["customers"]
        self._unseen = customers.rows.pop(list(customers.rows)[5])
        customers.changed()

    def restore(self) -> None:
        super().restore()
        if self._unseen is not None:
            customers = self.tenant.collections["customers"]
            customers.rows[self._unseen.id] = self._unseen
            customers.changed()
