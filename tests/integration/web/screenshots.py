"""Pictures of pages, in both widths and themes."""

import os
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Page, ViewportSize

WIDE, NARROW = ViewportSize(width=1280, height=900), ViewportSize(width=390, height=844)

type Theme = Literal["light", "dark"]

#: The widths by theme.
type Views = dict[Theme, dict[str, ViewportSize]]

FEW: Views = {"light": {"wide": WIDE}, "dark": {"narrow": NARROW}}
ALL: Views = {
    "light": {"narrow": NARROW, "wide": WIDE},
    "dark": {"wide": WIDE, "narrow": NARROW},
}
_FOLDER = "ETL_SCREENSHOTS"
_OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


async def shoot(page: Page, folder: Path, name: str, views: Views) -> None:
    """Check that nothing of a page is off to the side; it stays as it is last.

    It is drawn where somebody wants to look at it: at all pages, or at one that fails.
    """
    for theme, widths in views.items():
        await page.emulate_media(color_scheme=theme)
        for width, size in widths.items():
            await page.set_viewport_size(size)
            picture = folder / f"{name}-{width}-{theme}.png"
            beyond = await page.evaluate(_OVERFLOW)
            if beyond or views_are_wanted():
                await page.screenshot(path=picture, full_page=True)
            assert beyond == 0, picture


def views_are_wanted() -> bool:
    return _FOLDER in os.environ


def wanted_views() -> Views:
    """All views where a folder for the pictures is named, else a few."""
    return ALL if views_are_wanted() else FEW


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of pictures: as ETL_SCREENSHOTS names it."""
    named = os.environ.get(_FOLDER)
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
