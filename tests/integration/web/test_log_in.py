"""Who sees the dashboard: log-in and its end, tokens that read, and other sites' pages."""

import re
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from playwright.async_api import expect

from temporaletl.control.operations.platform import Platform
from temporaletl.control.web import dashboard as front
from temporaletl.settings.platform import TemporalSettings
from tests.integration.api.in_process import Served, schema_of, serving, warehouse_settings
from tests.integration.tcp_relay import TcpRelay
from tests.integration.web.stack import Stack

_ID = "0199c1f5-6a0e-7c55-8a43-5d3f3c1b9e10"
_FORM = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}


async def test_a_token_logs_in_and_leads_back_to_the_page_that_was_wanted(
    dashboard: Stack,
) -> None:
    token = await dashboard.token("operate")
    async with dashboard.page(cookie="") as page:
        await page.goto("/runs?mode=full")
        await expect(page).to_have_title(re.compile("Log in"))
        await page.get_by_label("Token").fill("etl_wrong")
        await page.keyboard.press("Enter")
        await expect(page.locator("#fault")).to_contain_text("not valid")
        await page.get_by_label("Token").fill(token)
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(re.compile(r"/runs\?mode=full$"))
        [cookie] = await page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert cookie["value"] not in token
        assert token not in await page.content()
        # The log-in ends while a page is open: its next renewal leads to the log-in, and back.
        await page.goto("/")
        dashboard.services.rows_changed("UPDATE etl_sessions SET expires_at = now()")
        dashboard.served.app.state.context.tokens.forget()
        await expect(page).to_have_title(re.compile("Log in"))
    # It was everybody's.
    dashboard.services.rows_changed(
        "UPDATE etl_sessions SET expires_at = created_at + interval '12 hours'"
    )


async def test_a_log_out_ends_the_log_in_in_the_warehouse_too(dashboard: Stack) -> None:
    async with dashboard.page(cookie=await dashboard.log_in("read")) as page:
        await page.goto("/")
        [cookie] = await page.context.cookies()
        await page.get_by_role("button", name="Log out").click()
        await expect(page).to_have_title(re.compile("Log in"))
    answer = await dashboard.served(
        "GET", "/", headers={"Cookie": f"etl_session={cookie['value']}"}, allow_redirects=False
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/log-in")


async def test_a_token_that_reads_sees_no_acts_and_cannot_act(dashboard: Stack) -> None:
    await dashboard.services.run(size=1)
    reader = {"Cookie": f"etl_session={await dashboard.log_in('read')}", **_FORM}
    for path in (
        "/",
        "/runs",
        "/connections/numbers/default",
        "/schedules",
        "/rejects",
        "/collections",
    ):
        answer = await dashboard.served("GET", path, headers=reader)
        assert answer.status_code == 200, answer.text
        # All that it can send is its log-out.
        assert re.findall('method="post" action="([^"]*)"', answer.text) == ["/log-out"], path
    for path in (
        *("/runs", "/runs/some-run/pause", "/connections/new", "/connections/numbers/x/edit"),
        *("/connections/numbers/x/delete", "/connections/numbers/default/check"),
        *("/rejects/replay", "/schedules/numbers/default/nightly/pause", "/people/fill", "/tokens"),
        *("/tokens/some/revoke", "/backfills", "/notifications/test", "/rejects/1/replay"),
        *("/runs/some-run/retry", "/schedules/numbers/default/create"),
        *(f"/collections/{_ID}/{act}" for act in ("refresh", "edit", "delete")),
        "/collections/new",
    ):
        answer = await dashboard.served("POST", path, headers=reader, data={"source": "numbers"})
        assert answer.status_code == 403, path
        assert "reads only" in answer.text or "may read only" in answer.text
    assert (await dashboard.served("GET", "/tokens", headers=reader)).status_code == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 404),
    ],
)
async def test_forms_of_other_sites_pages_are_not_taken(
    dashboard: Stack, headers: dict[str, str], status: int
) -> None:
    own = {"Cookie": f"etl_session={dashboard.cookie}"}
    answer = await dashboard.served("POST", "/runs/no-run/pause", headers={**own, **headers})
    assert answer.status_code == status
    for path in ("/log-in", "/log-out"):
        answer = await dashboard.served("POST", path, headers=headers, data={"token": "x"})
        assert (answer.status_code == 403) == (status == 403)


@pytest.mark.parametrize(
    "wanted",
    ["//evil.example", "https://evil.example", "/\\evil.example", "/\t/evil.example", "", "x"],
)
async def test_a_log_in_leads_to_no_other_site(dashboard: Stack, wanted: str) -> None:
    form = urlencode({"token": await dashboard.token("read"), "next": wanted})
    answer = await dashboard.served(
        "POST", "/log-in", headers=_FORM, data=form, allow_redirects=False
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


@pytest_asyncio.fixture
async def empty(postgres_url: str) -> AsyncIterator[Served]:
    """A dashboard over an empty warehouse, and a Temporal that does not answer."""
    temporal = TemporalSettings.model_validate({"address": "127.0.0.1:9"})
    async with schema_of(postgres_url) as warehouse:
        platform = Platform(temporal, warehouse_settings(postgres_url, warehouse.schema))
        async with serving(platform, fronts=(front.install,)) as served:
            yield served


async def test_without_a_token_this_machine_needs_no_log_in_and_others_get_none(
    empty: Served,
) -> None:
    answer = await empty("GET", "/runs")
    assert (answer.status_code, "No run yet" in answer.text) == (200, True)
    elsewhere = {"Host": "etl.example"}
    refused = await empty("GET", "/", headers=elsewhere, allow_redirects=False)
    assert (refused.status_code, refused.headers["location"]) == (303, "/log-in")
    token = await empty.token_of("operate")
    text = token.headers["Authorization"].removeprefix("Bearer ")
    # Over a network, the browser is to send it back over HTTPS alone; the page says so.
    answer = await empty(
        "POST",
        "/log-in",
        headers={**_FORM, **elsewhere},
        data={"token": text},
        allow_redirects=False,
    )
    cookie = SimpleCookie(answer.headers["set-cookie"])["etl_session"]
    assert cookie["secure"]
    assert int(cookie["max-age"]) in range(12 * 3600 - 60, 12 * 3600 + 1)
    assert "plain HTTP" in (await empty("GET", "/log-in", headers=elsewhere)).text


async def test_a_temporal_that_does_not_answer_is_named_with_since_when(empty: Served) -> None:
    answer = await empty("GET", "/")
    assert answer.status_code == 200
    assert "temporal is down" in answer.text
    assert "since <time" in answer.text
    schedules = await empty("GET", "/schedules", headers={"Accept": "text/html"})
    assert schedules.status_code == 503
    assert "<h1>Service Unavailable</h1>" in schedules.text


async def test_pages_of_the_ledger_show_in_an_outage_what_was_read_last(postgres_url: str) -> None:
    temporal = TemporalSettings.model_validate({"address": "127.0.0.1:9"})
    pages = ("/runs?state=failed", "/rejects?source=shop", "/audit", "/notifications")
    async with schema_of(postgres_url) as warehouse:
        with TcpRelay(postgres_url) as relay:
            platform = Platform(temporal, warehouse_settings(relay.url, warehouse.schema))
            async with serving(platform, fronts=(front.install,)) as served:
                for page in pages:
                    answer = await served("GET", page)
                    assert (answer.status_code, "· not renewed since" in answer.text) == (
                        200,
                        False,
                    ), page
                relay.freeze(admitting=False)
                for page in pages:
                    answer = await served("GET", page)
                    assert (answer.status_code, "· not renewed since" in answer.text) == (
                        200,
                        True,
                    ), page
                unseen = await served("GET", "/runs?state=lost")
                assert (unseen.status_code, "Load this page again" in unseen.text) == (503, True)
