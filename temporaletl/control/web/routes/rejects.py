"""`/rejects`: records that could not become rows, listed and shown."""

from functools import partial
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Path, Query, Response

from temporaletl.control.api.paging import decode_cursor, encode_cursor
from temporaletl.control.operations.rejects import get_reject, list_newest_rejects
from temporaletl.control.web.findings import connection_path, path_of_run
from temporaletl.control.web.visit import InVisit, pages

router = pages()

_REJECTS = 50

Chosen = Annotated[str, Query(max_length=100)]


@router.get("/rejects")
async def get_rejects(
    visit: InVisit,
    source: Chosen = "",
    connection: Chosen = "",
    stream: Chosen = "",
    after: Annotated[str | None, Query(max_length=500)] = None,
) -> Response:
    """List the rejects, the newest first, of all sources or of one."""
    key = decode_cursor(after, tuple[int])
    given = {"source": source, "connection": connection, "stream": stream}
    observe = partial(
        list_newest_rejects,
        visit.context.platform,
        limit=_REJECTS + 1,
        after=key[0] if key else None,
        source=source or None,
        connection=connection or None,
        stream=stream or None,
    )
    sight = await visit.read(f"rejects {given} {key}", observe)
    found = sight.value
    items = found[:_REJECTS]
    following = None
    if len(found) > _REJECTS:
        more = {**given, "after": encode_cursor(items[-1].reject_id)}
        following = "?" + urlencode({name: value for name, value in more.items() if value})
    return visit.page(
        "rejects.html",
        rejects=items,
        sight=sight,
        given=given,
        next_path=following,
        is_first=after is None,
        connection_path=connection_path,
    )


@router.get("/rejects/{reject_id}")
async def get_one(visit: InVisit, reject_id: Annotated[int, Path(ge=1, le=2**63 - 1)]) -> Response:
    """Show a reject: why, the record, and which run met it last."""
    observe = partial(get_reject, visit.context.platform, reject_id)
    sight = await visit.read(f"reject {reject_id}", observe)
    return visit.page(
        "reject.html",
        reject=sight.value,
        sight=sight,
        connection_path=connection_path,
        path_of_run=path_of_run,
    )
