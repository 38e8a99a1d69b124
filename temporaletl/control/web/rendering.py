"""Rendering: pages and parts of them from templates, without secrets and without inline code."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse, Response

from temporaletl.control.web.assets import path_of
from temporaletl.control.web.filters import FILTERS, GLOBALS
from temporaletl.terminal import fit_to_print

#: No script, style or frame but our own files; no inline code, and no evaluation of texts.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    # The same path answers with a page, or with the part of it that moves.
    "Vary": "HX-Request, Cookie",
}


def _fit_to_show(value: Any) -> Any:
    """A text without secrets; what would turn the order of the page around is seen instead."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return fit_to_print(value.replace("\r\n", "\n"))


@cache
def environment() -> Environment:
    """The templates. What is undefined is an error, and every text is escaped."""
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_fit_to_show,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    found.filters.update(FILTERS)
    found.globals.update(GLOBALS, static=path_of)
    return found


def render(
    template: str, values: Mapping[str, Any], *, status: int = 200, block: str | None = None
) -> Response:
    """Answer with a page, or with one block of it."""
    found = environment().get_template(template)
    values = {"now": datetime.now(UTC), **values}
    if block is None or block not in found.blocks:
        content = found.render(values)
    else:
        content = "".join(found.blocks[block](found.new_context(values)))
    return HTMLResponse(content, status_code=int(status))
