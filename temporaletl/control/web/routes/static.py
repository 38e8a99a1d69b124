"""`/static`: the style sheet, the scripts and the icon."""

from http import HTTPStatus

from fastapi import Response
from starlette.exceptions import HTTPException

from temporaletl.control.web.assets import assets
from temporaletl.control.web.visit import pages

router = pages()


@router.get("/static/{version}/{name}")
async def get_static(version: str, name: str) -> Response:
    """Answer with a file; one of that version never changes."""
    found = assets().get(name)
    if found is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no file {name}")
    lasting = version == found.version
    return Response(
        found.content,
        media_type=found.media_type,
        headers={"Cache-Control": "public, max-age=31536000, immutable" if lasting else "no-cache"},
    )
