"""`etl sources`, `etl check`, `etl preview`."""

from datetime import timedelta
from typing import Annotated

import typer

from temporaletl.control.cli.commands.arguments import (
    AsJson,
    Connection,
    Params,
    Since,
    Source,
    Streams,
    Until,
    read_request,
)


def sources(as_json: AsJson = False) -> None:
    """List the sources there are, with their streams and tables."""
    from temporaletl.control.cli.views import sources as view

    view.print_sources(as_json=as_json)


def check(source: Source, connection: Connection = "default", as_json: AsJson = False) -> int:
    """Try what a source needs, here and in the services: settings, source, warehouse, Temporal."""
    from temporaletl.control.cli.views import sources as view

    return view.print_check(source, connection, as_json=as_json)


def preview(
    source: Source,
    stream: Streams = None,
    connection: Connection = "default",
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, help="Rows to show, of all streams.")
    ] = 10,
    within_seconds: Annotated[
        float,
        typer.Option(
            "--within-seconds",
            metavar="N",
            min=0.1,
            help="Stop after so many seconds, with what is read.",
        ),
    ] = 30,
    start: Since = None,
    end: Until = None,
    param: Params = None,
    as_json: AsJson = False,
) -> None:
    """Show the first rows a source would load; nothing is written."""
    request = read_request(source, connection, stream, start, end, param)

    from temporaletl.control.cli.views.preview import print_preview

    within = timedelta(seconds=within_seconds)
    print_preview(request, limit=limit, within=within, as_json=as_json)
