"""`etl up`, `etl serve`."""

from pathlib import Path
from typing import Annotated

import typer


def up(
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            file_okay=False,
            help="Where the warehouse, Temporal's file and the logs are kept.",
            show_default="ETL_DATA_DIR, or ~/.local/share/temporaletl",
        ),
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh", metavar="", help="Begin anew: everything in the folder is deleted."
        ),
    ] = False,
    workers: Annotated[
        int, typer.Option(metavar="N", min=1, help="Worker processes; one per core is plenty.")
    ] = 1,
    temporal_port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT", min=1, max=65535, help="Temporal's port.", show_default="a free one"
        ),
    ] = None,
    ui: Annotated[
        bool, typer.Option("--ui", metavar="", help="Serve Temporal's own web page, too.")
    ] = False,
) -> int:
    """Run everything on this machine until Ctrl-C: PostgreSQL, Temporal, both services, the API."""
    from temporaletl.control.api.settings import ApiSettings
    from temporaletl.control.cli.output import note, say
    from temporaletl.control.cli.session import refuse_api
    from temporaletl.embedded import stack
    from temporaletl.embedded.running import default_data_folder

    refuse_api()
    api = ApiSettings.load()
    options = stack.StackOptions(
        data=data or default_data_folder(),
        fresh=fresh,
        workers=workers,
        temporal_port=temporal_port,
        ui=ui,
        api=stack.Address(api.host, api.port),
    )
    return stack.up(options, report=say, complain=lambda line: note(f"etl: {line}"))


def serve(
    host: Annotated[
        str | None,
        typer.Option(
            metavar="HOST", help="Where it listens.", show_default="ETL_API_HOST, or 127.0.0.1"
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT",
            min=0,
            max=65535,
            help="Its port; 0: a free one.",
            show_default="ETL_API_PORT, or 8080",
        ),
    ] = None,
    next_port: Annotated[
        bool,
        typer.Option(
            "--next-port", metavar="", help="Where the port is in use, take the next free one."
        ),
    ] = False,
) -> None:
    """Serve the dashboard and the HTTP API until Ctrl-C."""
    from temporaletl.control.api import serving
    from temporaletl.control.api.settings import ApiSettings
    from temporaletl.control.cli.output import say
    from temporaletl.control.cli.session import begin_here
    from temporaletl.control.web import dashboard

    begin_here()
    given = {"host": host, "port": port}
    settings = ApiSettings.load().model_copy(
        update={name: value for name, value in given.items() if value is not None}
    )
    serving.serve(settings, report=say, fronts=(dashboard.install,), next_port=next_port)
