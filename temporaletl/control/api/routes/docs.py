"""`/docs`: the OpenAPI document as a page that needs no script, and nothing from elsewhere."""

import re
from functools import cache
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, Request, Response
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from temporaletl.control.api.reference import sections_of

router = APIRouter(include_in_schema=False)

#: The page's own style and nothing else: no script, no picture, no frame, no form.
_POLICY = (
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"}
_CODE = re.compile("`([^`]+)`")


@router.get("/docs")
async def get_docs(request: Request) -> Response:
    """Show every operation, with its parameters and examples."""
    page = getattr(request.app.state, "docs_page", None)
    if page is None:
        page = request.app.state.docs_page = _render(request.app.openapi())
    return Response(page, media_type="text/html", headers=_HEADERS)


@router.get("/docs/style.css")
async def get_style() -> Response:
    """The style of the page."""
    return Response(_asset("docs.css"), media_type="text/css", headers=_HEADERS)


def _render(document: dict[str, Any]) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters["code"] = _with_code
    template = environment.from_string(_asset("docs.html"))
    return template.render(document=document, sections=sections_of(document))


def _with_code(text: str) -> Markup:
    """A text whose parts between backticks are code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped


@cache
def _asset(name: str) -> str:
    folder = files("temporaletl.control.api") / "templates"
    return (folder / name).read_text("utf-8")
