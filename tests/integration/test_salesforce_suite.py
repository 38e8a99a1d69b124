"""The standard suite once more, with everything read by the Bulk API."""

from collections.abc import Mapping
from typing import ClassVar

import pytest

from temporaletl.testing import SourceSuite
from temporaletl.worker.sources.salesforce import extract
from tests.fakes.faults import ANSWERS, TRANSPORT
from tests.source_fixtures.salesforce import SalesforceFixture

pytestmark = pytest.mark.slow


class BulkFixture(SalesforceFixture):
    page_size_setting = "SF_BULK_PAGE_ROWS"
    faults: ClassVar[tuple[str, ...]] = (
        *TRANSPORT,
        *ANSWERS,
        "short-piece",
        "bulk-gone",
        "bulk-slow",
    )

    def environment(self, url: str) -> Mapping[str, str]:
        return {**super().environment(url), "SF_BULK_ABOVE_ROWS": "1"}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract, "_FIRST_POLL_SECONDS", 0.001)


class TestInBulk(SourceSuite):
    fixture = BulkFixture
