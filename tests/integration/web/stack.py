"""The dashboard and both services, started once, and a browser that looks at it."""

import contextlib
import os
import shutil
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    async_playwright,
    expect,
)

from temporaletl.control.api.access import COOKIE
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.tokens import create_token, log_in
from temporaletl.control.web import dashboard as front
from temporaletl.warehouse.audit import Author
from temporaletl.warehouse.tokens import Scope
from tests.integration.api.in_process import Served, platform_of, schema_of, serving
from tests.integration.flows.services import Services, running
from tests.integration.temporal_server import TemporalServer

#: Services start and stop jobs within seconds; on a busy machine within a few more.
_WITHIN_MILLISECONDS = 120_000
expect.set_options(timeout=_WITHIN_MILLISECONDS)
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass(frozen=True)
class Stack:
    """A dashboard over services that load the source of numbers, and a browser."""

    served: Served
    services: Services
    browser: Browser
    #: Of a log-in that may act.
    cookie: str
    #: What browsers said on their consoles, and pages that broke the policy.
    complaints: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        return self.served.address

    @property
    def platform(self) -> Platform:
        return self.served.platform

    async def token(self, scope: Scope) -> str:
        """The text of a new token."""
        made = await create_token(
            self.platform, f"{scope}-{uuid.uuid4().hex[:8]}", scope, author=Author(name="test")
        )
        return made.text.get_secret_value()

    @contextlib.asynccontextmanager
    async def context(
        self, *, cookie: str | None = None, **options: object
    ) -> AsyncIterator[BrowserContext]:
        """A browser, logged in as one that may act; what it complains of is kept."""
        cookie = self.cookie if cookie is None else cookie
        async with await self.browser.new_context(base_url=self.address, **options) as context:  # type: ignore[arg-type]
            context.set_default_timeout(_WITHIN_MILLISECONDS)
            # Not the method itself: it would be given attributes, which a frozen instance refuses.
            context.on("console", lambda message: self._hear(message))  # noqa: PLW0108
            context.on("weberror", lambda error: self.complaints.append(str(error.error)))
            if cookie:
                await context.add_cookies(
                    [{"name": COOKIE, "value": cookie, "url": self.address, "sameSite": "Strict"}]
                )
            yield context

    async def log_in(self, scope: Scope) -> str:
        """The cookie of a new log-in."""
        return (await log_in(self.platform, await self.token(scope))).value.get_secret_value()

    @contextlib.asynccontextmanager
    async def page(self, **options: Any) -> AsyncIterator[Page]:
        async with self.context(**options) as context:
            yield await context.new_page()

    def _hear(self, message: ConsoleMessage) -> None:
        # A browser also says so of each answer that is an error, which tests ask for.
        if "Failed to load resource" not in message.text:
            self.complaints.append(f"{message.type}: {message.text}")


def find_browser() -> str:
    """A Chromium; where there is none the test is skipped, and in CI fails."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    reason = "no Chromium on PATH: the dashboard is not looked at"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def dashboard(shared_temporal: TemporalServer, postgres_url: str) -> AsyncGenerator[Stack]:
    executable = find_browser()
    own = await shared_temporal.with_namespace()
    async with (
        schema_of(postgres_url) as warehouse,
        running(own.client, warehouse, attempts=50, segment_seconds=1) as services,
        serving(platform_of(services, postgres_url), services, fronts=(front.install,)) as served,
        async_playwright() as playwright,
        await playwright.chromium.launch(executable_path=executable, args=[*_ARGUMENTS]) as browser,
    ):
        stack = Stack(served, services, browser, "")
        yield replace(stack, cookie=await stack.log_in("operate"))
