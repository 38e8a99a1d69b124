"""`/collections`: listed, shown, made, replaced and deleted; their members loaded together."""

import asyncio
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import Path, Response

from temporaletl.control.operations.collections import (
    create_collection,
    delete_collection,
    get_collection,
    list_collections,
    replace_collection,
)
from temporaletl.control.operations.freshness import StreamFreshness
from temporaletl.control.operations.refreshes import refresh_collection
from temporaletl.control.operations.reports import RunReport
from temporaletl.control.web.declared import see_declared
from temporaletl.control.web.findings import cause_of, connection_path, run_path
from temporaletl.control.web.forms import version_of
from temporaletl.control.web.routes.connections import worst_of
from temporaletl.control.web.routes.overview import see_freshness
from temporaletl.control.web.visit import Form, InVisit, Visit, pages, renewal
from temporaletl.names import parse_label
from temporaletl.warehouse.collections import Collection, Member

router = pages()

CollectionId = Annotated[UUID, Path()]


@router.get("/collections")
async def get_collections(visit: InVisit) -> Response:
    """List the collections with their members, by name."""
    observe = partial(list_collections, visit.context.platform)
    sight = await visit.dashboard.sights.see("collections", observe)
    return visit.page(
        "collections.html",
        collections=sight.value,
        sight=sight,
        collection_path=_path,
        connection_path=connection_path,
    )


@router.get("/collections/new")
async def get_new(visit: InVisit) -> Response:
    """Ask for a name and members."""
    visit.operator()
    return await _declaration(visit, None)


@router.post("/collections/new")
async def post_new(visit: InVisit) -> Response:
    """Create a collection; lead to its page."""
    caller, form = visit.operator(), await visit.form()
    made = await create_collection(
        visit.context.platform, form.text("name"), _members(form), author=caller.author()
    )
    visit.context.forget()
    return visit.done(_path(made), f"created collection {made.name}")


@router.get("/collections/{collection_id}")
async def get_one(visit: InVisit, collection_id: CollectionId) -> Response:
    """Show a collection: each member with its last run and its freshness, and what can be done."""
    return await _page(visit, await get_collection(visit.context.platform, collection_id))


@router.post("/collections/{collection_id}/refresh")
async def post_refresh(visit: InVisit, collection_id: CollectionId) -> Response:
    """Start a run of each member; show what came of each."""
    caller, form = visit.operator(), await visit.form()
    done = await refresh_collection(
        visit.context.platform,
        collection_id,
        mode="full" if form.text("mode") == "full" else "incremental",
        force=form.is_checked("force"),
        author=caller.author(),
    )
    visit.context.forget()
    return await _page(visit, done.collection, done=done)


@router.get("/collections/{collection_id}/edit")
async def get_edit(visit: InVisit, collection_id: CollectionId) -> Response:
    """Show a collection's name and members, to be replaced."""
    visit.operator()
    return await _declaration(visit, await get_collection(visit.context.platform, collection_id))


@router.post("/collections/{collection_id}/edit")
async def post_edit(visit: InVisit, collection_id: CollectionId) -> Response:
    """Replace a collection's name and members, unless somebody else did so meanwhile."""
    caller, form = visit.operator(), await visit.form()
    made = await replace_collection(
        visit.context.platform,
        collection_id,
        form.text("name"),
        _members(form),
        expected_version=version_of(form),
        author=caller.author(),
    )
    visit.context.forget()
    return visit.done(_path(made), f"replaced collection {made.name}")


@router.post("/collections/{collection_id}/delete")
async def post_delete(visit: InVisit, collection_id: CollectionId) -> Response:
    """Delete a collection; its connections stay."""
    caller, form = visit.operator(), await visit.form()
    gone = await delete_collection(
        visit.context.platform,
        collection_id,
        expected_version=version_of(form),
        author=caller.author(form.text("reason") or None),
    )
    visit.context.forget()
    return visit.done("/collections", f"deleted collection {gone.name}; its connections stay")


async def _declaration(visit: Visit, stored: Collection | None) -> Response:
    """The form of a collection: connections that are set up, then the others."""
    declared = await see_declared(visit)
    members = stored.members if stored else ()
    known = [
        (Member(source=one.source, connection=one.name), one.fault)
        for one in declared.connections
        if one.source is not None
    ]
    gone = [one for one in members if one not in {member for member, _ in known}]
    return visit.page(
        "collection_form.html",
        stored=stored,
        ready=[member for member, fault in known if fault is None or member in members],
        others=[(one, fault) for one, fault in known if fault is not None and one not in members],
        members=members,
        gone=gone,
        unread=declared.unread,
        here="/collections/new" if stored is None else f"{_path(stored)}/edit",
    )


async def _page(visit: Visit, collection: Collection, **more: Any) -> Response:
    fresh, declared, observed = await asyncio.gather(
        see_freshness(visit), see_declared(visit), visit.recent_runs()
    )
    last: dict[tuple[str, str], RunReport] = {}
    for run in observed.value.runs:
        last.setdefault((run.source, run.connection), run)
    streams: dict[tuple[str, str], list[StreamFreshness]] = {}
    for entry in fresh.value.entries if fresh else ():
        streams.setdefault((entry.source, entry.connection), []).append(entry)
    members = {(one.source, one.connection) for one in collection.members}
    shown = [run for whose, run in last.items() if whose in members]
    values: dict[str, Any] = {
        "collection": collection,
        "last": last,
        "streams": streams,
        "worst": worst_of,
        "is_declared": declared.has,
        "fresh": fresh,
        "observed": observed,
        "done": None,
        "cause_of": cause_of,
        "run_path": run_path,
        "connection_path": connection_path,
        "here": _path(collection),
        # Also where this answers a form: what moves is on the collection's own page.
        "path": _path(collection),
        "every": renewal(shown),
    }
    return visit.page("collection.html", **(values | more))


def _path(collection: Collection) -> str:
    return f"/collections/{collection.collection_id}"


def _members(form: Form) -> list[Member]:
    whose = map(parse_label, form.texts("member"))
    return [Member(source=source, connection=connection) for source, connection in whose]
