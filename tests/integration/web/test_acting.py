"""What an operator does in a browser: by mouse, by keyboard, and without a script."""

import json
import re
from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Page, expect

from temporaletl.control.operations.control import control_run
from tests.far_times import FAR_DAYS, FAR_DAYS_NAME
from tests.integration.flows import numbers
from tests.integration.web.stack import Stack
from tests.waiting import until

#: More pages than any test waits for: it ends when it is cancelled.
_SLOW = {"pages": 10_000, "page_seconds": 0.25}


@pytest_asyncio.fixture(autouse=True)
async def _no_run_is_left(dashboard: Stack) -> AsyncIterator[None]:
    yield
    query = "SELECT workflow_id FROM etl_batches WHERE ended_at IS NULL"
    for (run,) in dashboard.services.rows(query):
        await control_run(dashboard.platform, run, "cancel")
    await until(lambda: not dashboard.services.rows(query))


async def start(page: Page, **params: object) -> None:
    await page.goto("/connections/numbers/default")
    await page.locator("form[action='/runs']").get_by_label("Mode").select_option("full")
    await page.get_by_text("Span of a backfill").click()
    await page.get_by_label("Parameters of the source").fill(json.dumps(params))
    await page.get_by_role("button", name="Start a run").click()
    await page.wait_for_url(re.compile(r"/runs/etl-numbers-full-"))


async def test_a_run_is_started_watched_paused_by_keyboard_and_resumed(dashboard: Stack) -> None:
    async with dashboard.page() as page:
        await start(page, **_SLOW)
        await expect(page.locator("#notice")).to_contain_text("started etl-numbers-full-")
        rows = page.locator("#rows")
        await expect(rows).to_contain_text("inserted")
        seen = await rows.inner_text()
        await expect(rows).not_to_have_text(seen)
        summary = page.get_by_text("The numbers")
        await summary.click()
        toggle = page.locator("button[id^=toggle]")
        await toggle.focus()
        await page.keyboard.press("Enter")
        await expect(page.locator("#notice")).to_contain_text("The run is paus")
        await expect(toggle).to_contain_text("Resume")
        await expect(page.locator("h2 .state")).to_have_text("paused")
        # The focus has stayed, and what was opened is open.
        await expect(toggle).to_be_focused()
        assert await summary.evaluate("one => one.parentElement.open")
        await page.keyboard.press("Enter")
        await expect(toggle).to_contain_text("Pause")
        await expect(page.locator("h2 .state")).to_have_text("running")
        await page.get_by_text("Cancel…").click()
        await page.get_by_label("Reason").fill("seen enough")
        await page.get_by_role("button", name="Cancel the run").click()
        await expect(page.locator("h2 .state")).to_have_text("cancelled")
        # What the page says is what was committed.
        [(loaded,)] = dashboard.services.rows(
            "SELECT sum(records) FROM etl_pages JOIN etl_batches USING (batch_id) "
            "WHERE etl_batches.workflow_id = %s",
            page.url.rpartition("/")[2],
        )
        shown = sum(
            int(number.replace(",", ""))
            for number in re.findall("[0-9][0-9,]*", await rows.inner_text())
        )
        assert shown == loaded > 0
        await page.goto("/audit")
        await expect(page.locator("tbody tr").first).to_contain_text("seen enough")
    assert dashboard.complaints == []


async def test_without_a_script_pages_read_and_a_run_is_paused_resumed_and_cancelled(
    dashboard: Stack,
) -> None:
    async with dashboard.page(java_script_enabled=False) as page:
        await start(page, **_SLOW)
        state = page.locator("h2 .state")

        async def is_now(*states: str) -> bool:
            await page.reload()
            return await state.inner_text() in states

        await until(lambda: is_now("running"))
        await page.get_by_role("button", name="Pause").click()
        await expect(page.locator("#notice")).to_contain_text("The run is paus")
        await until(lambda: is_now("paused"))
        assert await page.locator("#notice").inner_text() == ""  # said once
        await page.get_by_role("button", name="Resume").click()
        await page.get_by_text("Cancel…").click()
        await page.get_by_role("button", name="Cancel the run").click()
        await until(lambda: is_now("cancelled"))
        await page.goto("/")
        await expect(page.get_by_role("heading", name="Last runs")).to_be_visible()


async def test_a_reject_is_replayed_into_a_row(dashboard: Stack) -> None:
    numbers.cursed.add(3)
    try:
        await dashboard.services.run(size=5)
    finally:
        numbers.cursed.clear()
    async with dashboard.page() as page:
        await page.goto("/rejects?source=numbers")
        await page.get_by_role("link", name="0:3").click()
        await expect(page.locator("main")).to_contain_text("3 is cursed")
        await expect(page.locator("pre")).to_contain_text('"value": 3')
        await page.get_by_role("button", name="Replay this reject").click()
        await page.wait_for_url(re.compile(r"/runs/etl-numbers-replay-"))
        await expect(page.locator("h2 .state")).to_have_text("completed")
        await page.goto("/rejects?source=numbers")
        await expect(page.get_by_role("link", name="0:3")).to_have_count(0)


async def test_what_failed_is_retried_and_its_log_read(dashboard: Stack) -> None:
    failed = await dashboard.services.run(jobs=2, poisoned=1)
    async with dashboard.page() as page:
        await page.goto(f"/runs/{failed.batch_id}")
        await expect(page.locator("main")).to_contain_text("job 1 is poisoned")
        await expect(page.locator(".log")).to_contain_text("batch_ended")
        await page.get_by_role("button", name="Retry what failed").click()
        await page.wait_for_url(re.compile(r"/runs/etl-numbers-full-"))
        await expect(page.locator("#notice")).to_contain_text("retries what failed")
        await expect(page.locator("h2 .state")).to_have_text("failed")
        await expect(page.locator("main")).to_contain_text("0 of 1 job, 1 failed")


async def test_a_connection_is_made_checked_loaded_replaced_and_deleted(dashboard: Stack) -> None:
    async with dashboard.page() as page:
        await page.goto("/connections/new?source=numbers")
        await page.get_by_label("Name").fill("second")
        await page.get_by_role("button", name="Make the connection").click()
        await page.wait_for_url(re.compile(r"/connections/numbers/second$"))
        await page.get_by_role("button", name="Check the connection").click()
        await expect(page.get_by_role("heading", name="Checks")).to_be_visible()
        await expect(page.locator("section", has_text="Checks").last).to_contain_text("stream all")
        await page.get_by_role("button", name="Start a run").click()
        await page.wait_for_url(re.compile(r"/runs/etl-numbers@second-"))
        await expect(page.locator("h2 .state")).to_have_text("completed")
        await expect(page.locator("#rows")).to_contain_text("10 inserted")
        await page.goto("/connections/numbers/second/edit")
        await page.get_by_role("button", name="Replace its settings").click()
        await page.wait_for_url(re.compile(r"/connections/numbers/second$"))
        await page.get_by_text("Delete…").click()
        await page.get_by_role("button", name="Delete the connection").click()
        await page.wait_for_url(re.compile(r"/connections$"))
        await expect(page.locator("#notice")).to_contain_text("deleted numbers@second")
        await expect(page.get_by_role("link", name="numbers@second")).to_have_count(0)


async def test_a_second_start_is_refused_with_what_goes_on(dashboard: Stack) -> None:
    async with dashboard.page() as page:
        await start(page, **_SLOW)
        first = page.url.rpartition("/")[2]
        await page.goto("/connections/numbers/default")
        await page.get_by_role("button", name="Start a run").click()
        await expect(page.locator("main")).to_contain_text("goes on already (")
        await expect(page.locator("main")).to_contain_text(first)
        await page.goto(f"/runs/{first}")
        await page.get_by_text("Cancel…").click()
        await page.get_by_role("button", name="Cancel the run").click()
        await expect(page.locator("h2 .state")).to_have_text("cancelled")


async def test_a_backfill_is_shown_before_it_is_started(dashboard: Stack) -> None:
    async with dashboard.page() as page:
        await page.goto("/connections/numbers/default")
        await page.get_by_text("Span of a backfill").click()
        await page.get_by_label("From").fill("2024-01-01T00:00:00")
        await page.get_by_label("To (UTC").fill("2024-01-02T00:00:00")
        await page.get_by_label("Parameters of the source").fill('{"jobs": 3}')
        await page.get_by_role("button", name="Show what a backfill").click()
        await expect(page.get_by_role("heading", name="3 jobs")).to_be_visible()
        await expect(page.locator("main")).to_contain_text("2024-01-01 00:00:00 UTC up to")
        await page.get_by_role("button", name="Start the backfill").click()
        await page.wait_for_url(re.compile(r"/runs/etl-numbers-backfill-"))
        await expect(page.locator("h2 .state")).to_have_text("completed")
        await expect(page.locator("main")).to_contain_text("3 of 3 jobs")


async def test_a_schedule_is_made_paused_resumed_and_deleted(dashboard: Stack) -> None:
    async with dashboard.page() as page:
        await page.goto("/connections/numbers/default")
        await page.get_by_label("Days").fill(FAR_DAYS)
        await page.get_by_role("button", name="Make a schedule").click()
        await page.wait_for_url(re.compile("/schedules$"))
        row = page.get_by_role("row", name="numbers")
        await expect(row.first).to_contain_text(f"{FAR_DAYS_NAME} at 00:00 UTC")
        await page.get_by_role("button", name="Pause").click()
        await expect(page.get_by_role("button", name="Resume")).to_be_visible()
        await expect(page.locator("main")).to_contain_text("paused by token:operate-")
        await page.get_by_role("button", name="Resume").click()
        await expect(page.get_by_role("button", name="Pause")).to_be_visible()
        await page.get_by_text("Delete…").click()
        await page.get_by_role("button", name="Delete the schedule").click()
        await expect(page.locator("main")).to_contain_text("No run starts by itself")


async def test_a_collection_is_made_loaded_replaced_and_deleted_without_a_script(
    dashboard: Stack,
) -> None:
    async with dashboard.page() as page:
        await start(page, **_SLOW)
    async with dashboard.page(java_script_enabled=False) as page:
        await page.goto("/collections")
        await page.get_by_role("link", name="Make a collection").click()
        await page.get_by_role("textbox", name="Name").fill("nightly & weekly")
        await page.get_by_label("numbers", exact=True).check()
        await page.get_by_label("temporal", exact=True).check()
        await page.get_by_role("button", name="Make the collection").click()
        await expect(page.locator("#notice")).to_contain_text("created collection nightly & weekly")
        await expect(page.get_by_role("heading", name="2 connections")).to_be_visible()
        # One is declared no longer, which is said where it is a member, and where it is refused.
        gone = "declared no longer: take it out of the collection, or declare it again"
        dashboard.services.rows_changed(
            "UPDATE collection_members SET source = 'vanished' WHERE source = 'temporal'"
        )
        await page.reload()
        await expect(page.get_by_role("row", name="it is declared no longer")).to_contain_text(gone)
        await page.get_by_role("button", name="Start a run of each").click()
        title = page.locator("#done-title")
        await expect(title).to_have_text("0 started, 1 going on already, 1 refused")
        done = page.locator("section", has=title)
        await expect(done.get_by_role("row", name="numbers goes on already")).to_contain_text(
            "etl-numbers-full-"
        )
        await expect(done).to_contain_text(f"vanished is {gone}")
        await page.get_by_role("link", name="Replace its name and members").click()
        await expect(page.get_by_text("vanished declared no longer")).to_be_visible()
        await page.get_by_label("vanished").uncheck()
        await page.get_by_role("button", name="Replace the collection").click()
        await expect(page.get_by_role("heading", name="1 connection")).to_be_visible()
        await page.get_by_text("Delete…").click()
        await page.get_by_role("button", name="Delete the collection").click()
        await expect(page.locator("#notice")).to_contain_text("deleted collection nightly & weekly")
        await expect(page.locator("main")).to_contain_text("There is none yet.")


async def test_a_page_that_is_not_renewed_says_since_when_and_rests_while_nobody_looks(
    dashboard: Stack,
) -> None:
    async with dashboard.page() as page:
        await page.clock.install()
        reads: list[str] = []
        page.on("request", lambda one: reads.append(one.url) if one.url.endswith("/runs") else None)
        await page.goto("/runs")
        banner = page.locator("#silence")
        async with page.expect_response("**/runs"):
            pass
        await page.route("**/runs", lambda route: route.abort())
        await expect(banner).to_contain_text("UTC: the server does not answer")
        await expect(banner).to_contain_text(re.compile(r"Not renewed since \d{4}-\d\d-\d\d "))
        await page.unroute("**/runs")
        await page.route("**/runs", lambda route: route.fulfill(status=503, body="away"))
        await expect(banner).to_contain_text("the server answered 503")
        await page.unroute("**/runs")
        await expect(banner).to_be_hidden()
        # What nobody looks at is not asked for; it is, once somebody does.
        await page.evaluate("Object.defineProperty(document, 'hidden', {get: () => window.away})")
        await page.evaluate("window.away = true")
        seen = len(reads)
        await page.clock.run_for(60_000)
        assert len(reads) == seen
        async with page.expect_response("**/runs"):
            await page.evaluate(
                "window.away = false; document.dispatchEvent(new Event('visibilitychange'))"
            )
    # What was broken here, htmx said on the console.
    assert all("Failed to fetch" in one for one in dashboard.complaints)
    dashboard.complaints.clear()
