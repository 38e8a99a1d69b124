"""Rejected records of a segment, and the threshold above which they fail the job."""

from collections.abc import AsyncGenerator

import pytest

from temporaletl.errors import ConfigurationError, RecordError, TooManyRejectsError
from temporaletl.extraction import Page, PageRequest
from temporaletl.messages import JobProgress, RowCounts
from temporaletl.rows import Reject
from temporaletl.worker.transforming import reject_of
from tests.unit.loading_double import Shop, ShopQuery, shop

__all__ = ["shop"]


async def test_a_bad_record_becomes_a_reject_and_the_others_load(shop: Shop) -> None:
    async def extract(_request: PageRequest[ShopQuery]) -> AsyncGenerator[Page]:
        yield Page(records=[1, RecordError("no date"), KeyError("who"), 2], cursor=1)

    shop.extract = extract
    assert (await shop.run()).done
    [load] = shop.loads
    assert shop.loaded == ["1", "2"]
    assert [reject.reason for reject in load.rejects] == ["no date", "KeyError: 'who'"]
    assert [reject.stage for reject in load.rejects] == ["transform", "transform"]
    assert load.records == 4


async def test_records_that_could_not_be_decoded_are_counted_and_kept(shop: Shop) -> None:
    undecoded = Reject(stage="extract", reason="not JSON", payload=b"{")

    async def extract(_request: PageRequest[ShopQuery]) -> AsyncGenerator[Page]:
        yield Page(records=[1], cursor=1, rejects=[undecoded])

    shop.extract = extract
    await shop.run()
    [load] = shop.loads
    assert (load.records, load.rejects) == (2, [undecoded])


async def test_a_permanent_error_of_a_transform_fails_the_job_not_the_record(shop: Shop) -> None:
    async def extract(_request: PageRequest[ShopQuery]) -> AsyncGenerator[Page]:
        yield Page(records=[ConfigurationError("no such table")], cursor=1)

    shop.extract = extract
    with pytest.raises(ConfigurationError, match="no such table"):
        await shop.run()
    assert shop.loads == []


@pytest.mark.parametrize(
    ("bad", "good", "fails"),
    [
        (9, 1, False),  # nine of ten, but nine say little
        (10, 89, True),
        (10, 90, False),  # at the threshold is not above it
        (1, 0, True),  # nothing else came of the job
    ],
)
async def test_a_job_fails_when_too_many_of_its_records_are_rejected(
    shop: Shop, bad: int, good: int, fails: bool
) -> None:
    async def extract(_request: PageRequest[ShopQuery]) -> AsyncGenerator[Page]:
        yield Page(records=[*range(good), *[RecordError("bad")] * bad], cursor=1)

    shop.extract = extract
    if not fails:
        assert (await shop.run()).done
        return
    with pytest.raises(
        TooManyRejectsError, match=rf"of {good + bad} records of shop orders {bad} were rejected"
    ):
        await shop.run()
    assert len(shop.loads[0].rejects) == bad


async def test_rejects_are_judged_over_the_whole_job(shop: Shop) -> None:
    shop.progress = JobProgress(
        state="running", stream="orders", pages=1, records=1000, rows=RowCounts(inserted=1000)
    )

    async def extract(_request: PageRequest[ShopQuery]) -> AsyncGenerator[Page]:
        yield Page(records=[RecordError("bad")] * 50, cursor=1)

    shop.extract = extract
    assert (await shop.run()).done


def test_a_reject_keeps_the_records_raw_form_and_key() -> None:
    class Record:
        raw = b"{}"
        key = "SHOP-1"

    kept = reject_of(Record(), "no date")
    assert (kept.payload, kept.key) == (b"{}", "SHOP-1")
    assert reject_of({"a": 1}, "no date").payload == {"a": 1}
