"""Connections of the warehouse: made at `/connections/new`, replaced, and deleted."""

import asyncio
from typing import Annotated

from fastapi import Path, Query, Response

from temporaletl.control.operations.connection_settings import connection_settings_of
from temporaletl.control.operations.sources import known_planners
from temporaletl.control.operations.stored_connections import (
    PutConnection,
    create_connection,
    delete_connection,
    get_connection,
    replace_connection,
)
from temporaletl.control.web.findings import connection_path
from temporaletl.control.web.forms import version_of
from temporaletl.control.web.visit import Form, InVisit, Visit, pages
from temporaletl.errors import NotFoundError
from temporaletl.names import label
from temporaletl.warehouse.source_connections import StoredConnection

router = pages()

_SETTING, _KIND, _PLACE = "setting.", "kind.", "place."

ConnectionName = Annotated[str, Path(max_length=100)]


@router.get("/connections/new")
async def get_new(visit: InVisit, source: Annotated[str, Query(max_length=100)] = "") -> Response:
    """Ask for the source, then for the settings that a connection of it may give."""
    visit.operator()
    sources = list(await asyncio.to_thread(known_planners))
    settings = await asyncio.to_thread(connection_settings_of, source) if source else []
    return visit.page(
        "declaration.html",
        sources=sources,
        source=source,
        settings=settings,
        stored=None,
    )


@router.post("/connections/new")
async def post_new(visit: InVisit) -> Response:
    """Make a connection; lead to its page."""
    caller, form = visit.operator(), await visit.form()
    source, name = form.text("source"), form.text("name")
    settings, secrets = _declared(form)
    made = await create_connection(
        visit.context.platform, name, source, settings, secrets, author=caller.author()
    )
    visit.context.forget()
    return visit.done(connection_path(source, name), f"made {label(source, name)}{_notes(made)}")


@router.get("/connections/{source}/{name}/edit")
async def get_edit(visit: InVisit, source: ConnectionName, name: ConnectionName) -> Response:
    """Show what a connection declares, to be replaced."""
    visit.operator()
    stored = await _stored(visit, source, name)
    settings = await asyncio.to_thread(connection_settings_of, source)
    return visit.page(
        "declaration.html",
        sources=[],
        source=source,
        settings=settings,
        stored=stored,
    )


@router.post("/connections/{source}/{name}/edit")
async def post_edit(visit: InVisit, source: ConnectionName, name: ConnectionName) -> Response:
    """Replace what a connection declares, unless somebody else did so meanwhile."""
    caller, form = visit.operator(), await visit.form()
    await _stored(visit, source, name)
    settings, secrets = _declared(form)
    made = await replace_connection(
        visit.context.platform,
        name,
        settings,
        secrets,
        expected_version=version_of(form),
        author=caller.author(),
    )
    visit.context.forget()
    return visit.done(
        connection_path(source, name), f"replaced {label(source, name)}{_notes(made)}"
    )


@router.post("/connections/{source}/{name}/delete")
async def post_delete(visit: InVisit, source: ConnectionName, name: ConnectionName) -> Response:
    """Delete a connection and its watermarks; its rows stay."""
    caller, form = visit.operator(), await visit.form()
    await _stored(visit, source, name)
    await delete_connection(
        visit.context.platform,
        name,
        expected_version=version_of(form),
        author=caller.author(form.text("reason") or None),
    )
    visit.context.forget()
    return visit.done("/connections", f"deleted {label(source, name)}; its rows stay")


async def _stored(visit: Visit, source: str, name: str) -> StoredConnection:
    found = await get_connection(visit.context.platform, name)
    if found.source != source:
        raise NotFoundError(f"there is no connection {name!r} of source {source!r}")
    return found


def _declared(form: Form) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """The settings and the places of secrets that a form gives; empty fields give none."""
    settings: dict[str, str] = {}
    places: dict[str, dict[str, str]] = {}
    for key, value in form:
        if key.startswith(_SETTING) and value.strip():
            settings[key.removeprefix(_SETTING)] = value.strip()
        elif key.startswith(_PLACE) and value.strip():
            name = key.removeprefix(_PLACE)
            places[name] = {form.text(_KIND + name) or "env": value.strip()}
    return settings, places


def _notes(made: PutConnection) -> str:
    notes = "; ".join(made.notes)
    return f"; not checked here: {notes}" if notes else ""
