"""Rows with one key and different content are counted, and many of them fail the job."""

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime

import pytest

from temporaletl.errors import TooManyConflictsError
from temporaletl.extraction import Page, PageRequest
from temporaletl.query import Query
from temporaletl.rows import Event, Row
from temporaletl.warehouse import closing
from temporaletl.warehouse.connection import Warehouse
from tests.integration.loading import segments
from tests.integration.loading.jobs import Job, counts, fetch, make_event
from tests.integration.warehouse.batches import make_metadata


class Item(Row, frozen=True, kw_only=True):
    table = "items"
    key = ("item_id",)

    item_id: str
    state: str
    seen_at: datetime | None = None


def pages_of(*pages: Sequence[Row]) -> segments.Extract:
    async def extract(request: PageRequest[Query]) -> AsyncGenerator[Page]:
        for number, rows in enumerate(pages):
            if number >= int(str(request.cursor or 0)):
                yield Page(records=rows, cursor=number + 1)

    return extract


def test_repeats_that_differ_are_counted_and_those_that_do_not_are_not(
    warehouse: Warehouse,
) -> None:
    progress = Job(warehouse).load(
        make_event(1), make_event(1), make_event(2), make_event(2, employee_id="E2"),
        make_event(2, employee_id="E3"),
    )  # fmt: skip
    assert counts(progress) == (2, 0, 3, 0)
    assert (progress.conflicting, progress.conflicting_at_once) == (2, 2)
    assert progress.conflict == "event_id 'event-000002' has employee_id 'E1' and 'E2'"


def test_what_the_job_itself_wrote_and_what_others_did_are_told_apart(
    warehouse: Warehouse,
) -> None:
    Job(warehouse).load(*map(make_event, range(6)))
    job = Job(warehouse)
    job.load(*(make_event(n, employee_id="E2") for n in range(3)))
    progress = job.load(
        make_event(0, employee_id="E2"),  # again, by pages that overlap
        make_event(1, employee_id="E3"),
        make_event(5, employee_id="E3"),
    )
    assert counts(progress) == (0, 5, 1, 0)
    assert (progress.conflicting, progress.conflicting_at_once) == (1, 0)
    assert progress.conflict == "event_id 'event-000001' has employee_id 'E2' and 'E3'"


async def test_an_event_id_that_is_not_unique_fails_the_job_with_an_example(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [make_event(n, event_id=f"id-{n % 100}") for n in range(5000)]
    segments.register(monkeypatch, pages_of(*(rows[n : n + 1000] for n in range(0, 5000, 1000))))
    with pytest.raises(TooManyConflictsError, match=r"event_id 'id-\d+' has event_time_utc .* and"):
        await segments.run(Job(warehouse))
    ((count, at_once),) = (
        tuple(row.values())
        for row in fetch(warehouse, "SELECT conflicting, conflicting_at_once FROM etl_jobs")
    )
    assert count >= at_once >= 900


async def test_events_whose_ids_meet_on_different_pages_fail_it_in_the_end(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = [make_event(n) for n in range(300)]
    second = [make_event(n, employee_id="another") for n in range(300)]
    segments.register(monkeypatch, pages_of(first, second))
    with pytest.raises(TooManyConflictsError, match="of 600 rows of jira issues 300 had the key"):
        await segments.run(Job(warehouse))


@pytest.mark.parametrize("rows_per_page", [1, 20_000], ids=["apart", "in one transaction"])
async def test_rows_that_change_between_two_pages_do_not_fail_the_job(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, rows_per_page: int
) -> None:
    before = [make_event(n) for n in range(400)]
    later = [make_event(n, employee_id="another") for n in range(90)]
    segments.register(monkeypatch, pages_of(before, later))
    result = await segments.run(Job(warehouse), rows_per_page=rows_per_page)
    assert result.done
    assert (result.progress.conflicting, result.progress.conflicting_at_once) == (90, 0)
    found = fetch(warehouse, "SELECT count(*) AS n FROM events WHERE employee_id = 'another'")
    assert found == [{"n": 90}]


async def test_entities_may_move_on_while_the_job_runs(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_, closed = (
        [Item(item_id=str(n), state=state) for n in range(300)] for state in ("open", "closed")
    )
    segments.register(monkeypatch, pages_of(open_, closed), rows=(Item,))
    job = Job(warehouse, rows=(Item,))
    result = await segments.run(job)
    assert result.done
    assert result.progress.conflicting == 300
    assert result.progress.conflict == "item_id '0' has state 'open' and 'closed'"


async def test_the_summary_counts_them_and_gives_the_example(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments.register(
        monkeypatch, pages_of([make_event(1), make_event(1, employee_id="E2"), make_event(2)])
    )
    job = Job(warehouse, batch="shop-1")
    assert (await segments.run(job)).done
    summary = closing.finish_batch(
        warehouse, make_metadata("shop-1"), workflow_id="w", cancelled=False, error=None
    )
    assert (summary.state, summary.conflicting) == ("completed", 1)
    assert "1 rows had the key of another row" in summary.notes[0].note
    assert "employee_id 'E1' and 'E2'" in summary.notes[0].note


async def test_of_two_pages_loaded_together_the_later_complete_set_holds(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An item that was read twice: what it lost in between is not brought back."""
    from temporaletl.rows import CompleteSet  # noqa: PLC0415

    first: list[Event | CompleteSet] = [make_event(1, event_id=f"7:{n}") for n in "abc"]
    first += [CompleteSet("7:"), make_event(2, event_id="8:a")]
    later: list[Event | CompleteSet] = [make_event(1, event_id="7:b"), CompleteSet("7:")]

    async def extract(_request: PageRequest[Query]) -> AsyncGenerator[Page]:
        yield Page(records=[make_event(9)], cursor=1)
        yield Page(records=first, cursor=2)
        yield Page(records=later, cursor=3)

    segments.register(monkeypatch, extract)
    result = await segments.run(Job(warehouse), rows_per_page=20_000)
    assert result.done
    found = fetch(warehouse, "SELECT event_id FROM events ORDER BY 1")
    assert [row["event_id"] for row in found] == ["7:b", "8:a", "event-000009"]
