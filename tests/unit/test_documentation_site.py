"""The built documentation site: links, navigation, and that it needs no network."""

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.documentation import DOCS, ROOT


class Html(HTMLParser):
    """What a page loads, links to, and can be linked to by."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "link" and found.get("rel") in {"stylesheet", "preconnect", "icon", "preload"}:
            self.loads.append(found["href"])
        elif "src" in found:
            self.loads.append(found["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built anew where nothing else is."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(DOCS, folder / "docs")
    shutil.copy(ROOT / "zensical.toml", folder)
    built = subprocess.run(
        [Path(sys.executable).parent / "zensical", "build", "--strict"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "site"


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    built = list(site.rglob("*.html"))
    assert len(built) > len(list(DOCS.rglob("*.md")))
    for page in built:
        text = page.read_text("utf-8")
        assert not [url for url in Html(text).loads if urlsplit(url).netloc], page.name
        # The theme would fetch what draws these.
        assert not re.search(r'class="[^"]*(mermaid|arithmatex|glightbox)', text), page.name
    for style in site.rglob("*.css"):
        imported = re.findall(r"url\(['\"]?(?:https?:)?//|@import", style.read_text("utf-8"))
        assert not imported, style.name


def test_every_link_of_the_site_leads_somewhere(site: Path) -> None:
    read = {page: Html(page.read_text("utf-8")) for page in site.rglob("*.html")}
    for page, html in read.items():
        if page.name == "404.html":
            continue
        for link in html.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), (page.name, link)
            if parts.fragment and target in read:
                assert unquote(parts.fragment) in read[target].anchors, (page.name, link)


def test_every_page_is_in_the_navigation(site: Path) -> None:
    linked = {
        (site / urlsplit(link).path).resolve()
        for link in Html((site / "index.html").read_text("utf-8")).links
    }
    for page in DOCS.rglob("*.md"):
        assert (site / page.relative_to(DOCS).with_suffix(".html")).resolve() in linked, page.name
