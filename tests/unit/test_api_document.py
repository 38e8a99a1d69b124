"""The OpenAPI document, which programs read, and its page, which people read."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any

import jsonschema_rs
import pytest

from temporaletl.control.api.app import create_app
from temporaletl.control.api.document import operations
from temporaletl.control.api.problems import MEDIA_TYPE
from temporaletl.control.api.settings import ApiSettings
from temporaletl.control.operations.platform import Platform
from temporaletl.settings.platform import TemporalSettings, WarehouseSettings

APP = create_app(
    Platform(TemporalSettings.model_construct(), WarehouseSettings.model_construct()),
    ApiSettings.model_construct(),
)
DOCUMENT = APP.openapi()
OPERATIONS = [(one["operationId"], method, one) for method, one in operations(DOCUMENT)]
each = pytest.mark.parametrize(
    ("method", "operation"),
    [(method, one) for _, method, one in OPERATIONS],
    ids=[name for name, _, _ in OPERATIONS],
)


def test_the_document_is_one_of_openapi_3_1_without_fastapis_own_errors() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")
    assert len(OPERATIONS) > 30
    assert "ValidationError" not in str(DOCUMENT)
    names = [name for name, _, _ in OPERATIONS]
    assert len(set(names)) == len(names)
    for tag in DOCUMENT["tags"]:
        assert tag["description"], tag
    for found in re.findall(r"'#/components/schemas/([^']+)'", str(DOCUMENT)):
        assert found in DOCUMENT["components"]["schemas"]


@each
def test_an_operation_says_what_it_is(method: str, operation: dict[str, Any]) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", operation["operationId"])
    assert operation["summary"]
    assert operation["description"].endswith(".")
    [tag] = operation["tags"]
    assert tag in {one["name"] for one in DOCUMENT["tags"]}
    assert method in ("get", "post", "put", "patch", "delete")


@each
def test_an_operation_answers_errors_with_problems(method: str, operation: dict[str, Any]) -> None:
    errors = {s: one for s, one in operation["responses"].items() if s >= "400"}
    assert errors.keys() >= {"429", "500"}
    of_health = operation["tags"] == ["health"]
    assert of_health or errors.keys() >= {"401", "403", "404", "422", "503"}
    assert "requestBody" not in operation or errors.keys() >= {"400", "408", "413", "415"}
    for status, response in errors.items():
        if not (of_health and status == "503"):
            assert list(response["content"]) == [MEDIA_TYPE], (method, status)


@each
def test_every_example_is_there_and_fits_its_schema(method: str, operation: dict[str, Any]) -> None:
    for what, media in contents(operation):
        assert "example" in media, (method, what)
        validator = jsonschema_rs.Draft202012Validator(
            {**media["schema"], "components": DOCUMENT["components"]}
        )
        assert validator.is_valid(media["example"]), (what, media["example"])
    for parameter in operation.get("parameters", []):
        schema = parameter["schema"]
        assert "example" in parameter or schema.get("examples"), parameter["name"]


def contents(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for media in operation.get("requestBody", {}).get("content", {}).values():
        yield "body", media
    for status, response in operation["responses"].items():
        for media in response.get("content", {}).values():
            yield status, media
        assert response.get("content") or status in ("204", "304"), status


class Links(HTMLParser):
    """What a page would load or run, its headings' ids, and where it leads."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.leads: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        assert tag not in ("script", "style", "iframe", "form", "img"), tag
        assert not any(name.startswith("on") or name == "style" for name in found), attrs
        self.loads += [found["href"] or ""] if tag == "link" else []
        self.leads += [found["href"] or ""] if tag == "a" else []
        self.ids += [found["id"] or ""] if "id" in found else []


async def answered(path: str) -> tuple[dict[str, str], str]:
    """Headers and text of a page."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
    await APP({**scope, "client": ("127.0.0.1", 1), "server": ("localhost", 80)}, receive, send)
    head, *rest = sent
    assert head["status"] == 200, rest
    headers = {name.decode(): value.decode() for name, value in head["headers"]}
    return headers, b"".join(part["body"] for part in rest).decode()


async def test_the_page_shows_every_operation_and_needs_nothing_from_elsewhere() -> None:
    headers, text = await answered("/docs")
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self';")
    assert "unsafe" not in policy
    page = Links(text)
    assert page.loads == ["/docs/style.css"]
    assert {name for name, _, _ in OPERATIONS} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert {link.removeprefix("#") for link in page.leads} <= {*page.ids, "/api/v1/openapi.json"}
    headers, style = await answered("/docs/style.css")
    assert headers["content-type"] == "text/css; charset=utf-8"
    assert "url(" not in style
    assert "@import" not in style


def test_the_pages_own_files_are_part_of_the_package() -> None:
    folder = files("temporaletl.control.api") / "templates"
    assert {path.name for path in folder.iterdir()} == {"docs.css", "docs.html"}
